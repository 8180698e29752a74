"""Requests made of writes: the script on Redis itself, the commands, the sizes, the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.clock import Clock
from upstash_state import UpstashRedis, writes
from upstash_state.errors import (
    AnswerError,
    CapacityExceededError,
    KeyTooLargeError,
    ResponseError,
    UnavailableError,
)
from upstash_state.local import LocalEndpoint
from upstash_state.outbox import DELETED, MAX_DIGESTS, Outbox, Write, digest_of
from upstash_state.writes import SCRIPT, Part, page_of, parts_of, settle

# Seconds that the writes below have left, and their TTL.
LEFT, TTL = 60, 100
OTHER_TYPE = object()


@pytest.fixture
def client(either_endpoint: LocalEndpoint, request: pytest.FixtureRequest) -> UpstashRedis:
    if "fakeredis" in request.node.name:
        pytest.importorskip("lupa", reason="fakeredis runs no scripts without lupa")
    return UpstashRedis(either_endpoint.url, either_endpoint.token)


def run_script(
    client: UpstashRedis,
    *keys: str,
    text: str | None = "new",
    check: bool = False,
    left: Sequence[int] = (),
    abandoned: Sequence[str | None] = (),
    script: str = SCRIPT,
) -> Any:
    """Run the script. `abandoned` are texts, and None for a delete."""
    digests = f" {' '.join(map(digest_of, abandoned))} "
    each = [
        (int(check), TTL * 1000, "PX", seconds * 1000, digests, text or "")
        for _, seconds in zip(keys, left or [LEFT] * len(keys))
    ]
    arguments = [argument for key in each for argument in key]
    return client.execute_command("EVAL", script, len(keys), *keys, *arguments)


@pytest.mark.parametrize(
    ("stored", "expires_in", "abandoned", "written"),
    [
        pytest.param(None, None, [], True, id="missing"),
        pytest.param("old", LEFT - 5, [], True, id="saved earlier"),
        pytest.param("theirs", LEFT + 5, [], False, id="saved later"),
        pytest.param("theirs", TTL, [], False, id="saved right now"),
        pytest.param("theirs", TTL + 5, [], True, id="another TTL"),
        pytest.param("theirs", None, [], True, id="no expiry"),
        pytest.param("öld 🍕", LEFT + 5, ["older", "öld 🍕"], True, id="an abandoned text"),
        pytest.param("theirs", LEFT + 5, ["old", None], False, id="not the abandoned text"),
        pytest.param(OTHER_TYPE, LEFT + 5, ["old"], False, id="another type, saved later"),
        pytest.param(OTHER_TYPE, None, [], True, id="another type, no expiry"),
    ],
)
@pytest.mark.parametrize("text", ["new", None], ids=["save", "delete"])
def test_a_delayed_write_is_done_unless_the_order_was_saved_later(
    client: UpstashRedis,
    stored: Any,
    expires_in: int | None,
    abandoned: Sequence[str | None],
    written: bool,
    text: str | None,
) -> None:
    put(client, stored, expires_in)
    assert run_script(client, "order:1", text=text, abandoned=abandoned) == [int(written)]
    expected = stored if not written else text
    if expected is OTHER_TYPE:
        assert client.execute_command("LRANGE", "order:1", 0, -1) == ["item"]
    else:
        assert client.get("order:1") == expected
    if written and text:
        assert LEFT - 5 < client.ttl("order:1") <= LEFT


@pytest.mark.parametrize(
    ("stored", "abandoned", "written"),
    [
        pytest.param("new", ["old"], False, id="as it should be"),
        pytest.param("theirs", ["old", None], False, id="another writer's"),
        pytest.param("old", ["older", "old"], True, id="an abandoned text"),
        pytest.param(None, ["old"], False, id="deleted by another writer"),
        pytest.param(None, [None], True, id="an abandoned delete"),
        pytest.param(OTHER_TYPE, ["old", None], False, id="another type"),
    ],
)
@pytest.mark.parametrize("expires_in", [None, LEFT - 5, LEFT + 5, TTL + 5])
def test_a_check_only_mends_what_an_abandoned_attempt_did(
    client: UpstashRedis,
    stored: Any,
    expires_in: int | None,
    abandoned: Sequence[str | None],
    written: bool,
) -> None:
    put(client, stored, expires_in)
    assert run_script(client, "order:1", check=True, abandoned=abandoned) == [int(written)]
    if stored is not OTHER_TYPE:
        assert client.get("order:1") == ("new" if written else stored)


def test_an_error_of_one_write_fails_the_script_as_a_whole(client: UpstashRedis) -> None:
    with pytest.raises(ResponseError, match="ERR invalid"):
        run_script(client, "a", "b", "c", left=[LEFT, 0, LEFT])


def test_a_server_that_computes_no_digest_still_keeps_what_was_saved_later(
    client: UpstashRedis,
) -> None:
    put(client, "theirs", LEFT + 5)
    without = "local redis = {call = redis.call, pcall = redis.pcall}\n" + SCRIPT
    assert run_script(client, "order:1", script=without) == [0]
    assert client.get("order:1") == "theirs"


def test_a_page_of_writes_is_one_script(client: UpstashRedis) -> None:
    keys = [f"order:{n}" for n in range(writes.MAX_WRITES)]
    assert run_script(client, *keys) == [1] * len(keys)
    assert client.mget(keys) == ["new"] * len(keys)


def put(client: UpstashRedis, stored: Any, expires_in: int | None) -> None:
    if stored is OTHER_TYPE:
        client.execute_command("RPUSH", "order:1", "item")
    elif stored is not None:
        client.set("order:1", stored)
    if expires_in is not None:
        client.expire("order:1", expires_in)


class Box(Outbox):
    """An outbox with a clock to set."""

    def __init__(self) -> None:
        self.time = Clock()
        super().__init__(self.time)

    def add(self, key: str, text: str | None = "{}", ttl: int = TTL) -> Write:
        write = self.put(key, text, self.next_number(), ttl)
        assert write is not None
        return write

    def sent(self, *missing: str) -> list[list[str]]:
        """Return the commands that send what is pending, without the text of the script."""
        parts = parts_of(self.all_pending(), self, missing)
        return [[arg for arg in part.command.args if arg != SCRIPT] for part in parts]


@pytest.fixture
def box() -> Box:
    return Box()


def test_fresh_writes_are_one_command_of_each_kind(box: Box) -> None:
    box.add("a", '"1"')
    assert box.sent() == [["SET", "a", '"1"', "EX", "100"]]
    box.add("b", '"2"')
    box.add("c", None)
    box.add("d", None)
    together = ["MSETEX", "2", "a", '"1"', "b", '"2"', "EX", "100"]
    assert box.sent() == [together, ["DEL", "c", "d"]]
    ones = [["SET", "a", '"1"', "EX", "100"], ["SET", "b", '"2"', "EX", "100"]]
    assert box.sent("MSETEX") == [*ones, ["DEL", "c", "d"]]


def test_writes_with_different_ttls_are_a_set_each(box: Box) -> None:
    box.add("a")
    box.add("b", ttl=200)
    assert box.sent() == [["SET", "a", "{}", "EX", "100"], ["SET", "b", "{}", "EX", "200"]]


def test_delayed_writes_are_one_script_or_plain_commands_where_there_is_none(box: Box) -> None:
    box.abandon(box.add("a", '"old"'))
    box.add("a", '"1"')
    box.add("b", None)
    box.time.now += 11.5
    box.add("c")
    fresh = ["SET", "c", "{}", "EX", "100"]
    digests = " " + digest_of('"old"') + " "
    begin = ["0", "100000", "PX", "88500"]
    script = ["EVAL", "2", "a", "b", *begin, digests, '"1"', *begin, "  ", ""]
    assert box.sent() == [fresh, script]
    assert box.sent("EVAL") == [["SET", "a", '"1"', "PX", "88500"], fresh, ["DEL", "b"]]


def test_what_has_hardly_any_time_left_still_has_an_expiry(box: Box) -> None:
    box.add("a")
    box.time.now += TTL
    assert box.sent("EVAL") == [["SET", "a", "{}", "PX", "1"]]


@pytest.mark.parametrize("texts", [["x" * 100], ['🍕ü\n\\"' * 30], ["\x00\x1f" * 20], [""]])
@pytest.mark.parametrize("age", [0, 60], ids=["fresh", "delayed"])
def test_a_request_is_never_larger_than_it_may_be(
    box: Box, texts: list[str], age: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "MAX_BYTES", 10_000)
    for number in range(100):
        key = f"order:\x01\n{number}"
        for old in range(MAX_DIGESTS + 2 if age else 0):
            box.abandon(box.add(key, json.dumps(old)))
        box.add(key, json.dumps(texts, ensure_ascii=False))
    box.time.now += age
    sizes = []
    for page in cut(box):
        commands = [part.command.args for part in parts_of(page, box)]
        body = json.dumps(commands, ensure_ascii=False, separators=(",", ":"))
        sizes.append(len(body.encode()))
    assert 1 < len(sizes) < 100
    # The script comes once in a request.
    assert max(sizes) <= 10_000 + len(json.dumps(SCRIPT)) * (age > 0)


def cut(box: Box) -> list[list[Write]]:
    """All pages of the pending writes."""
    pages, rest = [], box.all_pending()
    while rest:
        pages.append(page_of(rest, box))
        del rest[: len(pages[-1])]
    return pages


def test_a_write_of_any_size_has_a_page(box: Box) -> None:
    sizes = [1, writes.MAX_BYTES, 1, 1, writes.MAX_BYTES]
    for number, size in enumerate(sizes):
        box.add(str(number), "x" * size)
    found = [[len(write.text or "") for write in page] for page in cut(box)]
    assert found == [[1], [writes.MAX_BYTES], [1, 1], [writes.MAX_BYTES]]


FULL = CapacityExceededError("full")


@pytest.mark.parametrize(
    ("result", "failed", "pending"),
    [
        ([1, 1], [], []),
        # 0 from a script: another writer's is newer.
        ([1, 0], [], []),
        (FULL, [FULL, FULL], ["a", "b"]),
        (KeyTooLargeError("which?"), [KeyTooLargeError] * 2, []),
        ([None, 1], [AnswerError], ["a"]),
    ],
)
def test_each_result_settles_its_write(box: Box, result: Any, failed: Any, pending: Any) -> None:
    both = [box.add("a"), box.add("b")]
    box.time.now += 60
    (part,) = parts_of(both, box)
    found = settle(part, result, box, box.time.now)
    kinds = [kind if isinstance(kind, type) else type(kind) for kind in failed]
    assert [type(write.error) for write in found] == kinds
    assert [write.key for write in box.all_pending()] == pending


def test_a_script_that_wrote_nothing_has_superseded_and_a_delete_of_nothing_has_not(
    box: Box,
) -> None:
    gone, late = box.add("gone", None), box.add("late")
    settle(Part(parts_of([gone], box)[0].command, [gone]), 0, box, 0.0)
    box.time.now += 60
    (part,) = parts_of([late], box)
    settle(part, [0], box, 0.0)
    assert (gone.confirmed, gone.superseded) == (True, False)
    assert (late.confirmed, late.superseded) == (False, True)


def test_what_failed_is_dropped_where_nothing_is_to_stay_pending(box: Box) -> None:
    write = box.put("a", "{}", box.next_number(), 100, keep=False)
    assert write is not None
    down = UnavailableError("down")
    settle(Part(parts_of([write], box)[0].command, [write]), down, box, 0.0)
    assert box.all_pending() == []
    assert write.error is down


def test_an_answer_of_a_wrong_kind_may_be_of_an_executed_command(box: Box) -> None:
    write = box.add("a")
    settle(parts_of([write], box)[0], AnswerError("odd"), box, 0.0)
    assert box.abandoned("a")
    assert box.all_pending() == [write]


@pytest.mark.parametrize("answer", [None, "OK", [1], [1, 1, 1], [1, 2], [1, None], [[], 1]])
def test_a_script_is_answered_with_a_result_for_each_key(box: Box, answer: Any) -> None:
    both = [box.add("a"), box.add("b")]
    box.time.now += 60
    (part,) = parts_of(both, box)
    assert "did not answer the script" in str(part.command.read(answer))


def test_a_delete_looks_like_no_digest() -> None:
    assert len(digest_of("{}")) == 40
    assert digest_of(None) == DELETED == "-"
