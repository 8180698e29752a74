"""What this package costs beside its alternatives, in time, commands and bytes.

    python -m tests.benchmarks                all of it, about a quarter of an hour
    python -m tests.benchmarks --quick        fewer rounds, no restore of 100,000
    python -m tests.benchmarks --json FILE    the same figures for a program

Needs the extra `test` and a redis-server. Nothing leaves 127.0.0.1.
"""
