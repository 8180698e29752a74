"""Tests of `upstash_state.cli.doctor`."""
