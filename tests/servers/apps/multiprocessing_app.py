import multiprocessing
import signal
import sys

from upstash_state import redis_save_order


def work() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"saved {redis_save_order('1', {'status': 'new'})}")
    signal.pause()


if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=work)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    child.start()
    child.join()
