"""What this package costs beside its alternatives: waiting, commands, processor time, memory.

    python -m tests.benchmarks                all of it, about a quarter of an hour
    python -m tests.benchmarks --quick        the small ones, in about a minute
    python -m tests.benchmarks --chart FILE   with the README's chart

Needs the extras `test` and `benchmarks`, and a redis-server. Nothing leaves 127.0.0.1.
"""
