from celery import Celery
from celery.signals import worker_ready

from upstash_state import redis_save_order

app = Celery("shop", broker="memory://")


@app.task
def save(order_id: str) -> None:
    print(f"saved {redis_save_order(order_id, {'status': 'new'})}")


@worker_ready.connect
def order(**_: object) -> None:
    save.delay("1")
