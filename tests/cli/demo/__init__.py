"""Tests of `upstash_state.cli.demo`."""
