"""Tests of `upstash_state.recording`."""
