"""Tests of `upstash_state.local`."""
