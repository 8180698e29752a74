"""Waiting, commands, processor time and memory, compared with other clients.

    python -m tests.benchmarks                all tables, in ten minutes
    python -m tests.benchmarks --quick        without the largest restore, in a minute and a half
    python -m tests.benchmarks --chart FILE   with the README's chart

Needs the extras `test` and `benchmarks`, and a redis-server. Nothing leaves 127.0.0.1.
"""
