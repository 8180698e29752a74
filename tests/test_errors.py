"""Exceptions survive what multiprocessing and caches do to them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from upstash_state import errors
from upstash_state.errors import UpstashError


def every_kind(base: type[UpstashError] = UpstashError) -> list[type[UpstashError]]:
    return [base, *(kind for child in base.__subclasses__() for kind in every_kind(child))]


MADE: dict[type[UpstashError], UpstashError] = {
    errors.CircuitOpenError: errors.CircuitOpenError(2.5),
    errors.SaveManyError: errors.SaveManyError(["1"], {"2": errors.DataError("no")}),
    errors.UnavailableError: errors.UnavailableError(
        "no name", reason="dns", transient=True, may_have_executed=False, retry_after=3.0
    ),
}


def facts(error: BaseException) -> Any:
    plain = {
        name: {key: facts(cause) for key, cause in value.items()} if name == "failed" else value
        for name, value in vars(error).items()
    }
    return type(error), error.args, str(error), plain


@pytest.mark.parametrize("kind", every_kind(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda error, n=n: pickle.loads(pickle.dumps(error, n)) for n in range(6)),
    ],
)
def test_a_copy_is_equal_with_its_attributes(kind: type[UpstashError], copied: Any) -> None:
    error = MADE.get(kind) or kind("what happened")
    error.order_id = "5866"  # type: ignore[attr-defined]
    assert facts(copied(error)) == facts(error)
