"""The tests, in folders as in the package; `tests.support` holds what several of them share."""

import pytest

pytest.register_assert_rewrite("tests.support")
