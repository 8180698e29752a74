"""Tests of `upstash_state.tool`."""
