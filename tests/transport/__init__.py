"""Tests of `upstash_state.transport`."""
