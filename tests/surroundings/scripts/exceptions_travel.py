"""each exception pickled, copied, deep-copied, raised in a `Pool` and a `ProcessPoolExecutor`"""

import copy
import inspect
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import upstash_state.recording
from upstash_state import (
    CircuitOpenError,
    QuotaExceededError,
    SaveManyError,
    UnavailableError,
    UpstashError,
)


def example(kind: type[UpstashError]) -> UpstashError:
    """One of each kind, with every attribute set to what is not its default."""
    if kind is SaveManyError:
        return SaveManyError(["1"], {"2": QuotaExceededError("quota")})
    error = CircuitOpenError(1.5) if kind is CircuitOpenError else kind("text")
    if isinstance(error, UnavailableError):
        error.reason, error.retry_after, error.reported = "dns", 2.5, not error.reported
        error.transient, error.may_have_executed = not error.transient, not error.may_have_executed
    return error


def examples() -> list[UpstashError]:
    modules = [upstash_state, upstash_state.recording]
    kinds = [getattr(module, name) for module in modules for name in module.__all__]
    return [example(k) for k in kinds if inspect.isclass(k) and issubclass(k, UpstashError)]


def facts(error: Exception) -> tuple[type, str, list[tuple[str, str]]]:
    return type(error), str(error), sorted((name, repr(fact)) for name, fact in vars(error).items())


def fail(number: int) -> None:
    raise examples()[number]


if __name__ == "__main__":
    for error in examples():
        for travelled in (
            *(pickle.loads(pickle.dumps(error, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
            copy.copy(error),
            copy.deepcopy(error),
        ):
            assert facts(travelled) == facts(error), (travelled, error)
    assert len(examples()) > 15
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool, ProcessPoolExecutor(1, mp_context=context) as executor:
        for number, error in enumerate(examples()):
            for result in (
                pool.apply_async(fail, [number]).get,
                executor.submit(fail, number).result,
            ):
                try:
                    result(30)
                except UpstashError as raised:
                    assert facts(raised) == facts(error), raised
                else:
                    raise AssertionError(error)
