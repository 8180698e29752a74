"""`demo`: one process saves orders and ends, another restores them and compares."""
