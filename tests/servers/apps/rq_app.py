from upstash_state import redis_flush, redis_save_order


def save(order_id: str) -> None:
    print(f"saved {redis_save_order(order_id, {'status': 'new'})}")
    redis_flush()
