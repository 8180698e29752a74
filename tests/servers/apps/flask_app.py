import os
import signal
import sys

from flask import Flask

from upstash_state import redis_save_order

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

app = Flask(__name__)


@app.post("/orders/<order_id>")
def save(order_id: str) -> dict[str, bool]:
    return {"saved": redis_save_order(order_id, {"status": "new"})}


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]))
