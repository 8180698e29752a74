"""The tests, in folders as in the package; `tests.support` holds what several of them share."""
