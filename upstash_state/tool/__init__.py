"""The command line: `upstash-state`, or `python -m upstash_state`."""
