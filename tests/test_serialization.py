"""Orders are stored byte for byte as `redis_state` stores them, and come back equal."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, localcontext
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.paths import STORED_ORDERS
from upstash_state.errors import DataError, OrderNotSerializableError, OrderUnreadableError
from upstash_state.serialization import (
    deserialize_order,
    deserialize_orders,
    order_id_text,
    serialize_order,
    shown_order_id,
)

STORED_ORDERS = [
    json.loads(line) for line in STORED_ORDERS.read_text(encoding="utf-8").splitlines()
]
NOON = datetime(2025, 12, 1, 12, 0, 0, 5, timezone(timedelta(hours=1)))
NOON_ISO = "2025-12-01T12:00:00.000005+01:00"

needs_python_311 = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="what redis_state reads is what Python 3.11 reads"
)


def at_iso_positions(order: dict[str, Any], change: Any) -> dict[str, Any]:
    """Apply `change` to every value where `redis_state` writes and reads datetimes."""
    result = {}
    for key, value in order.items():
        result[key] = change(value)
        if isinstance(value, list):
            result[key] = [
                {name: change(field) for name, field in item.items()}
                if isinstance(item, dict)
                else item
                for item in value
            ]
    return result


def written_by_redis_state(order: dict[str, Any]) -> str:
    def iso(value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else value

    return json.dumps(at_iso_positions(order, iso), ensure_ascii=False)


def read_by_redis_state(text: str) -> dict[str, Any]:
    def moment(value: Any) -> Any:
        if isinstance(value, str) and "T" in value:
            try:
                return datetime.fromisoformat(value)
            except ValueError:
                pass
        return value

    return at_iso_positions(json.loads(text), moment)


def tagged(value: Any) -> Any:
    """Write datetimes as the field `restored` of stored-orders.jsonl has them."""
    if isinstance(value, datetime):
        return {"$date": value.isoformat()}
    if isinstance(value, dict):
        return {key: tagged(member) for key, member in value.items()}
    if isinstance(value, list):
        return [tagged(item) for item in value]
    return value


def untagged(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"$date"}:
            return datetime.fromisoformat(value["$date"])
        return {key: untagged(member) for key, member in value.items()}
    if isinstance(value, list):
        return [untagged(item) for item in value]
    return value


class TestOrdersThatRedisStateStored:
    def test_come_back_as_redis_state_restored_them(self) -> None:
        restored = {
            order["id"]: tagged(deserialize_order(order["stored"])) for order in STORED_ORDERS
        }

        assert len(restored) == 160
        assert restored == {order["id"]: order["restored"] for order in STORED_ORDERS}

    def test_are_written_again_byte_for_byte(self) -> None:
        """The order held a string where the text is not an `isoformat()`, such as "…Z"."""

        def as_it_was(value: Any) -> Any:
            if isinstance(value, str):
                moment = deserialize_order(json.dumps({"at": value}))["at"]
                if isinstance(moment, datetime) and moment.isoformat() == value:
                    return moment
            return value

        for order in STORED_ORDERS:
            as_saved = at_iso_positions(json.loads(order["stored"]), as_it_was)
            assert serialize_order(as_saved) == order["stored"]

    def test_are_written_after_a_restore_as_redis_state_would(self) -> None:
        for order in STORED_ORDERS:
            restored = untagged(order["restored"])
            assert serialize_order(restored) == written_by_redis_state(restored)


# Once escaped, a high surrogate followed by a low one is the character that they encode.
texts = st.text(st.characters(exclude_categories=())).filter(
    lambda text: not re.search("[\ud800-\udbff][\udc00-\udfff]", text)
)
# Pythons before 3.14 read an offset of less than a second as UTC.
offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).filter(
    lambda offset: not offset or abs(offset) >= timedelta(seconds=1)
)
datetimes = st.builds(
    lambda moment, zone: moment.replace(tzinfo=zone, fold=0),
    st.datetimes(),
    st.none() | offsets.map(timezone),
)
# A text that is a datetime comes back as one where redis_state reads datetimes.
undated_texts = texts.filter(lambda text: not re.match("[0-9]{4}.*T", text, re.DOTALL))
no_texts = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
TAGS = ["$date", "$numberDecimal", "$uuid"]
keys = texts | st.integers().map(str) | st.sampled_from(["status_history", "T", *TAGS])
# redis_state refused these. They are stored with a tag at every depth.
tagged_values = st.dates() | st.decimals() | st.uuids()


def dicts(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw dicts that do not look like a tag: the stored form has this one ambiguity."""
    return st.dictionaries(keys, values, max_size=4).filter(
        lambda fields: len(fields) != 1 or not TAGS.__contains__(*fields)
    )


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | dicts(inner), max_leaves=8
    )


def orders(
    deeper: st.SearchStrategy[Any], shallow: st.SearchStrategy[Any] = no_texts
) -> st.SearchStrategy[dict[str, Any]]:
    """Draw orders with `deeper` leaves, and `shallow` ones where redis_state reads datetimes."""
    fields = no_texts | undated_texts | datetimes | shallow | dicts(trees(deeper))
    others = trees(deeper).filter(lambda item: not isinstance(item, dict))
    history = st.lists(others | dicts(fields | st.lists(trees(deeper), max_size=2)))
    return st.dictionaries(keys, fields | history, max_size=6)


json_leaves = no_texts | texts | datetimes.map(datetime.isoformat)


DECIMALS = ["NaN", "-NaN123", "sNaN", "Infinity", "-Infinity", "-0", "0E-10", "1E+5", "9" * 99]
AS_TAGS = [
    (Decimal("5.80"), {"$numberDecimal": "5.80"}),
    (Decimal("1E+5"), {"$numberDecimal": "1E+5"}),
    (Decimal("-Infinity"), {"$numberDecimal": "-Infinity"}),
    (
        UUID("12345678-9ABC-DEF0-1234-56789ABCDEF0"),
        {"$uuid": "12345678-9abc-def0-1234-56789abcdef0"},
    ),
    (date(2025, 12, 1), {"$date": "2025-12-01"}),
]


class TestRoundTrip:
    @given(orders(json_leaves | datetimes | tagged_values, tagged_values))
    @example({"at": NOON, "l": [NOON, [NOON], {"at": NOON, "d": {"at": NOON}}], "d": {"at": NOON}})
    @example({"note": "\ud83d \udc00é", "\udfff": ["\ud800"]})
    @example({"n": [Decimal(text) for text in DECIMALS], "total": Decimal("5.80")})
    @example({"l": [{"day": date(2025, 12, 1), "at": NOON, "id": UUID(int=7)}], "d": date.max})
    def test_every_order_comes_back_equal(self, order: dict[str, Any]) -> None:
        before = repr(order)

        text = serialize_order(order)

        # repr() tells 1, 1.0 and True apart, and equal moments at different offsets.
        assert repr(deserialize_order(text)) == before
        assert repr(deserialize_order(text.encode())) == before
        assert repr(order) == before

    @needs_python_311
    @given(orders(json_leaves))
    def test_redis_state_reads_every_order_that_it_could_have_written(
        self, order: dict[str, Any]
    ) -> None:
        assert repr(read_by_redis_state(serialize_order(order))) == repr(order)

    @given(orders(json_leaves))
    def test_text_is_what_redis_state_writes_unless_utf_8_cannot_carry_that(
        self, order: dict[str, Any]
    ) -> None:
        original = written_by_redis_state(order)

        assert serialize_order(order) == original.encode(errors="backslashreplace").decode()


class Size(IntEnum):
    LARGE = 40


class Status(str, Enum):
    NEW = "new"


class Alias(str):
    """Text that is another key of a dict than text of the same characters."""

    def __hash__(self) -> int:
        return 7


class Money(float):
    pass


class Moment(datetime):
    pass


class NaT(datetime):
    """As pandas' NaT behaves."""

    def __new__(cls) -> NaT:
        return super().__new__(cls, 1, 1, 1)

    def isoformat(self, *_: Any) -> str:
        return "NaT"

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


class Timestamp(datetime):
    """As pandas' Timestamp writes itself."""

    def isoformat(self, *_: Any) -> str:
        return super().isoformat(timespec="microseconds") + "789"


class Proxy:
    """As a proxy of werkzeug or Django outside of its context."""

    @property
    def __class__(self) -> Any:
        raise LookupError("working outside of\nrequest context")


class TestSerialize:
    @pytest.mark.parametrize(
        ("order", "text"),
        [
            pytest.param({}, "{}", id="empty"),
            pytest.param(
                {7: {8: 3}, None: 4, True: 5, 1.5: 6}, None, id="keys that are no strings"
            ),
            pytest.param({"f": [float("nan"), float("inf"), -0.0, 1e16]}, None, id="floats"),
            pytest.param({"t": (1, ("a",))}, '{"t": [1, ["a"]]}', id="tuples become lists"),
            pytest.param({"s": [Size.LARGE, Status.NEW, Money(1.5)]}, None, id="subclasses"),
            pytest.param(OrderedDict(a=OrderedDict(b=1)), None, id="dict subclasses"),
            pytest.param({"note": "Zoë 🔴 \n\u2028 \"'\\/"}, None, id="text is not escaped"),
            pytest.param(
                {"l": [OrderedDict(at=Moment(2025, 12, 1))]}, None, id="datetime subclass"
            ),
            pytest.param({"at": NOON}, f'{{"at": "{NOON_ISO}"}}', id="value"),
            pytest.param(
                {"l": [{"at": NOON}]}, f'{{"l": [{{"at": "{NOON_ISO}"}}]}}', id="in a list"
            ),
            pytest.param(
                {"l": ({"at": NOON},)}, f'{{"l": [{{"at": "{NOON_ISO}"}}]}}', id="in a tuple"
            ),
            pytest.param(
                {"d": {"at": NOON}}, f'{{"d": {{"at": {{"$date": "{NOON_ISO}"}}}}}}', id="deep"
            ),
            pytest.param({"l": [NOON]}, f'{{"l": [{{"$date": "{NOON_ISO}"}}]}}', id="list item"),
            pytest.param({"s": "\ud800é"}, '{"s": "\\ud800é"}', id="lone surrogate"),
        ],
    )
    def test_writes_what_redis_state_writes_or_would_write(
        self, order: dict[Any, Any], text: str | None
    ) -> None:
        assert serialize_order(order) == (text or written_by_redis_state(order))

    @pytest.mark.parametrize(("value", "tag"), AS_TAGS, ids=str)
    def test_writes_types_that_redis_state_refused_with_a_tag(self, value: Any, tag: Any) -> None:
        order = {"v": value, "h": [{"v": value}, value, [value]], "d": {"v": value}}
        text = serialize_order(order)

        assert json.loads(text) == {"v": tag, "h": [{"v": tag}, tag, [tag]], "d": {"v": tag}}
        assert deserialize_order(text) == order
        assert list(deserialize_orders([text, text])) == [order, order]

    def test_decimals_are_independent_of_the_context(self) -> None:
        order = {"total": Decimal("1.2345E+99"), "nan": {"$numberDecimal": "none"}}
        with localcontext(Context(prec=2, capitals=0, traps=[])):
            text = serialize_order(order)
            assert deserialize_order(text) == order
        assert (
            text == '{"total": {"$numberDecimal": "1.2345E+99"}, "nan": {"$numberDecimal": "none"}}'
        )
        assert deserialize_order(text) == order

    def test_nanoseconds_are_cut_as_redis_state_cut_them(self) -> None:
        moment = Timestamp(2025, 12, 1, 12, 0, 0, 123456)
        text = serialize_order({"at": moment, "l": [{"at": moment}, moment], "d": {"at": moment}})

        assert json.loads(text)["at"] == "2025-12-01T12:00:00.123456789"
        at = datetime(2025, 12, 1, 12, 0, 0, 123456)
        restored = deserialize_order(text)
        assert restored == {"at": at, "l": [{"at": at}, at], "d": {"at": at}}
        assert type(restored["d"]["at"]) is datetime

    @pytest.mark.parametrize(
        "order",
        [
            {"5": 1, 5: 2},
            {5: 2, "5": 1},
            {"d": [{None: 1, "null": 2}], "x": ({True: 1, "true": 2},)},
            {"l": [{1.5: 1, "1.5": 2}]},
            {"d": OrderedDict({Alias("new"): 1, "new": 2})},
            {1: {"1": 1}, "2": [{2: 1}, {"2": 1}]},
            {Status.NEW: 1, "NEW": 2},
        ],
        ids=str,
    )
    def test_of_keys_that_become_the_same_text_the_last_one_is_read(
        self, order: dict[Any, Any]
    ) -> None:
        text = serialize_order(order)

        assert text == json.dumps(order)
        assert deserialize_order(text) == json.loads(text)

    def test_an_order_with_int_keys_can_be_changed_and_saved_after_a_restore(self) -> None:
        order = deserialize_order(serialize_order({"rounds": {5: "first"}}))
        order["rounds"][5] = "second"

        assert deserialize_order(serialize_order(order)) == {"rounds": {"5": "second"}}

    def test_any_mapping_may_be_an_order(self) -> None:
        order = {"at": NOON, "d": {"n": 1}}
        assert serialize_order(MappingProxyType(order)) == serialize_order(order)
        with pytest.raises(OrderNotSerializableError, match=r"order: d\.n: set - convert it to"):
            serialize_order(MappingProxyType({"d": {"n": {1}}}))

    def test_leaves_the_order_as_it_is(self) -> None:
        history = {"at": NOON}
        order: dict[str, Any] = {
            "at": NOON,
            "status_history": [history, NOON],
            "payload": {"at": NOON},
        }

        serialize_order(order)

        assert order == {
            "at": NOON,
            "status_history": [{"at": NOON}, NOON],
            "payload": {"at": NOON},
        }
        assert order["status_history"][0] is history

    def test_lets_another_thread_add_to_the_order(self) -> None:
        """At the worst moment: between two fields of the order."""

        class Meddling(datetime):
            def isoformat(self, *_: Any) -> str:
                for fields in (order, history):
                    fields[f"added_{len(fields)}"] = 1
                return NOON_ISO

        history: dict[str, Any] = {"at": Meddling(2025, 12, 1), "type": "new"}
        order: dict[str, Any] = {"at": Meddling(2025, 12, 1), "history": [history], "id": 1}

        text = serialize_order(order)

        assert json.loads(text)["at"] == json.loads(text)["history"][0]["at"] == NOON_ISO

    def test_lets_another_thread_add_to_what_is_deep_in_the_order(self) -> None:
        deep: dict[str, int] = {str(number): number for number in range(2_000)}
        done = threading.Event()

        def add_and_take_away() -> None:
            while not done.is_set():
                for number in range(-99, 0):
                    deep[str(number)] = 1
                for number in range(-99, 0):
                    del deep[str(number)]

        thread = threading.Thread(target=add_and_take_away)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        thread.start()
        try:
            for _ in range(500):
                assert '"299": 299' in serialize_order({"d": {"deep": deep}})
        finally:
            done.set()
            sys.setswitchinterval(interval)
            thread.join()

    @pytest.mark.parametrize(
        ("order", "culprit"),
        [
            ({"total": complex(5, 80)}, "total: complex"),
            ({"status_history": [{}, {}, {"price": {1}}]}, "status_history[2].price: set"),
            ({"payload": {"a b": [{"größe": {1}}]}}, 'payload["a b"][0].größe: set'),
            ({"payload": {"": {"5": {7: {None: b""}}}}}, 'payload[""]["5"][7][null]: bytes'),
            ({"a\nb": {"\ud800": object()}}, '["a\\nb"]["\\ud800"]: object'),
            ({"at": NOON, "day": NaT()}, "day: NaT"),
            ({"d": {"l": [NaT()]}, "at": NOON}, "d.l[0]: NaT"),
            ({"l": [{"at": NaT()}]}, "l[0].at: NaT"),
            ({"l": ((time(11, 2),),)}, "l[0][0]: time"),
            (
                {"fine": [{"x": [1]}], "d": {"fine": {}, "delta": timedelta(1)}},
                "d.delta: timedelta",
            ),
            ({"sizes": [{(1, 2): "x"}]}, "sizes[0]: key of type tuple"),
            ({"sizes": {NOON: "x"}}, "sizes: key of type datetime"),
            ({b"id": 1}, "order: key of type bytes"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_names_the_path_and_type_of_what_json_cannot_hold(
        self, order: dict[Any, Any], culprit: str
    ) -> None:
        with pytest.raises(TypeError) as caught:
            serialize_order(order)

        assert isinstance(caught.value, OrderNotSerializableError)
        found, _, advice = str(caught.value).partition(" - ")
        assert found == f"JSON cannot hold the order: {culprit}"
        assert advice.startswith("convert it to text")

    def test_names_the_path_of_an_order_that_contains_itself(self) -> None:
        order: dict[str, Any] = {"same": [NOON_ISO] * 2, "twice": [{}, {}]}
        order["payload"] = {"items": [{}, {"order": order}]}

        with pytest.raises(OrderNotSerializableError, match=r"payload\.items\[1\]\.order: circ"):
            serialize_order(order)

    def test_the_same_object_twice_is_not_a_circular_reference(self) -> None:
        address = {"zip": "94032"}
        order = {"from": address, "to": [address, [address, NOON], [address]], "bad": {1}}

        with pytest.raises(OrderNotSerializableError, match="bad: set"):
            serialize_order(order)

    def test_refuses_an_order_that_is_nested_too_deeply(self) -> None:
        nested: list[Any] = []
        for _ in range(100_000):
            nested = [nested]

        with pytest.raises(OrderNotSerializableError, match="nested too deeply"):
            serialize_order({"nested": nested})

    def test_names_the_path_of_a_value_that_raises(self) -> None:
        class Failing(datetime):
            def isoformat(self, *_: Any) -> str:
                raise OSError("no\ntext")

        for order, message in (
            ({"d": [Proxy()]}, r"d[0]: Proxy - working outside of\nrequest context"),
            ({"at": datetime(2025, 12, 1, tzinfo=tzinfo())}, "at: datetime - a tzinfo subclass "),
            ({"at": Failing(2025, 12, 1)}, r"no\ntext"),
        ):
            with pytest.raises(OrderNotSerializableError) as caught:
                serialize_order(order)
            assert str(caught.value).startswith(f"JSON cannot hold the order: {message}")

    @pytest.mark.parametrize(
        "order",
        [
            {"x": type("Odd\nERROR all lost", (), {})()},
            {"x": {type("Odd\nERROR all lost", (), {})(): 1}},
            {"x": type("X" * 10_000, (), {"__module__": "m\n"})()},
            {"x": type("bool", (), {"__module__": "m\n" * 10_000})()},
            {"a\u2028b\x9b\u202e": {1}},
            {"k" * 1_000_000: {"x": {1}}},
            {"\n" * 1_000_000: {"x": {1}}},
            functools.reduce(lambda inner, _: {"deeper": inner}, range(300), {"x": {1}}),
        ],
        ids=range(8),
    )
    def test_the_error_is_one_printable_line_of_bounded_length(self, order: dict[str, Any]) -> None:
        with pytest.raises(OrderNotSerializableError) as caught:
            serialize_order(order)

        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1_500
        assert " - convert it to text" in str(caught.value)

    def test_a_long_path_is_cut_in_the_middle(self) -> None:
        order = {"first": {"k" * 1_000: {"price": {1}}}}
        with pytest.raises(OrderNotSerializableError, match=r"order: first\.k+…k+\.price: set - "):
            serialize_order(order)

    @pytest.mark.parametrize("order", [{"n": {"big": 10**5000}}, {"n": {10**5000: 1}}])
    def test_names_an_int_that_python_does_not_write(self, order: dict[str, Any]) -> None:
        with pytest.raises(
            OrderNotSerializableError, match=r"order: n(\.big: int|: key of type int)"
        ):
            serialize_order(order)

    @pytest.mark.parametrize("order", [None, [], "{}", 5])
    def test_an_order_is_a_dict(self, order: Any) -> None:
        with pytest.raises(TypeError, match=f"a dict, not {type(order).__name__}"):
            serialize_order(order)


class TestDeserialize:
    def test_reads_dates_only_where_redis_state_writes_them(self) -> None:
        fields = f'"at": "{NOON_ISO}", "day": "2025-12-01", "spaced": "2025-12-01 12:00"'

        order = deserialize_order(
            f'{{{fields}, "d": {{{fields}}}, "l": ["{NOON_ISO}", {{{fields}, "d": {{{fields}}}}}]}}'
        )

        text = {"at": NOON_ISO, "day": "2025-12-01", "spaced": "2025-12-01 12:00"}
        assert order == {
            **text,
            "at": NOON,
            "d": text,
            "l": [NOON_ISO, {**text, "at": NOON, "d": text}],
        }

    @pytest.mark.parametrize(
        "tag",
        [
            f'{{"$date": "{NOON_ISO}"}}',
            '{"$date": "2025-12-01T11:00:00"}',
            '{"$date": "2025-12-01T11:00:00.120000-23:59:59.000001"}',
        ],
    )
    def test_a_tag_becomes_a_datetime_wherever_one_is_written(self, tag: str) -> None:
        moment = datetime.fromisoformat(json.loads(tag)["$date"])

        order = deserialize_order(
            f'{{"d": {{"x": {tag}}}, "l": [{tag}, [{tag}], {{"x": [{tag}]}}]}}'
        )

        assert order == {"d": {"x": moment}, "l": [moment, [moment], {"x": [moment]}]}
        assert json.loads(serialize_order(order)) == tagged(order)

    @pytest.mark.parametrize(
        "foreign",
        [
            {"$date": "2025-12-01T11:00:00Z"},
            {"$date": "2025-12-01T11:00:00.123Z"},
            {"$date": "2025-12-01T11:00:00.123+00:00"},
            {"$date": "2025-12-01 11:00:00"},
            {"$date": "20251201T110000"},
            {"$date": "2025-W49-1"},
            {"$date": "20251201"},
            {"$date": "today"},
            {"$date": 1764586800000},
            {"$date": {"$numberLong": "1764586800000"}},
            {"$date": NOON_ISO, "more": 1},
            {"$numberDecimal": "5.80 "},
            {"$numberDecimal": "1e5"},
            {"$numberDecimal": "5_0"},
            {"$numberDecimal": "nan"},
            {"$numberDecimal": 5},
            {"$numberDecimal": [0, [5], 0]},
            {"$numberDecimal": "five"},
            {"$uuid": "12345678-9ABC-DEF0-1234-56789ABCDEF0"},
            {"$uuid": "123456789abcdef0123456789abcdef0"},
            {"$uuid": "none"},
            {"$uuid": 7},
            {"$oid": "12345678-9abc-def0-1234-56789abcdef0"},
            {"date": NOON_ISO},
        ],
        ids=str,
    )
    def test_a_dict_that_only_resembles_a_tag_stays_a_dict(self, foreign: dict[str, Any]) -> None:
        order = {"payload": {"at": foreign, "all": [foreign], "$date": NOON_ISO}}

        assert deserialize_order(json.dumps(order)) == order

    def test_a_date_tag_stays_a_dict_where_datetimes_have_no_tag(self) -> None:
        order = {"at": {"$date": NOON_ISO}, "history": [{"at": {"$date": NOON_ISO}, "type": "new"}]}

        assert deserialize_order(json.dumps(order)) == order

    @pytest.mark.parametrize("tag", [tag for _, tag in AS_TAGS] + [{"$date": NOON_ISO}], ids=str)
    def test_an_order_of_nothing_but_a_tag_is_an_order(self, tag: dict[str, str]) -> None:
        order = {key: NOON if text == NOON_ISO else text for key, text in tag.items()}
        assert deserialize_order(json.dumps(tag)) == order
        assert list(deserialize_orders([json.dumps(tag)] * 2)) == [order] * 2

    @pytest.mark.parametrize("depth", [800, 3000])
    def test_a_tag_is_found_however_deep_json_may_be_nested(self, depth: int) -> None:
        text = f'{{"d": {"[" * depth}{{"$date": "{NOON_ISO}"}}{"]" * depth}}}'
        try:
            json.loads(text)
        except RecursionError:
            pytest.skip(f"this Python reads no JSON nested {depth} deep")

        found = deserialize_order(text)["d"]
        while isinstance(found, list):
            found = found[0]

        assert found == NOON

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "as JSON: Expecting value"),
            ('{"name": "Zoë"', "as JSON: Expecting ',' delimiter"),
            ('{"name": "Zoë"} x', "as JSON: Extra data"),
            ('["Zoë"]', "must hold an object, not list"),
            ('"Zoë"', "must hold an object, not str"),
            ("null", "must hold an object, not NoneType"),
            ('{"name": "Zoë"}'.encode("latin-1"), "as JSON: 'utf-8' codec can't decode"),
            ('{"name": "Zoë", "x": ' + "[" * 200_000, "is nested too deeply"),
            ('{"name": "Zoë", "x": ' + "1" * 5000 + "}", "as JSON: Exceeds the limit"),
            (None, "must be str, not NoneType"),
            ({"name": "Zoë"}, "must be str, not dict"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_says_why_text_is_unreadable_without_repeating_it(self, text: Any, reason: str) -> None:
        with pytest.raises(ValueError, match=re.escape(reason)) as caught:
            deserialize_order(text)

        assert isinstance(caught.value, OrderUnreadableError)
        assert "Zo" not in str(caught.value)
        assert len(str(caught.value)) < 250


# The same on every Python and with every dateutil, unlike `fromisoformat` and `isoparse` alone.
DATETIMES = {
    # isoformat(), also with a timespec, and offsets of local mean times.
    "2025-12-01T11:02:28": "2025-12-01T11:02:28",
    "2025-12-01T11:02:28.905136": "2025-12-01T11:02:28.905136",
    "2025-12-01T11:02:28-01:30": "2025-12-01T11:02:28-01:30",
    "2025-12-01T11": "2025-12-01T11:00:00",
    "2025-12-01T11:02+00:00": "2025-12-01T11:02:00+00:00",
    "2025-12-01T11:02:28.905+01:00": "2025-12-01T11:02:28.905000+01:00",
    "1880-12-01T11:02:28+00:53:28": "1880-12-01T11:02:28+00:53:28",
    "1880-12-01T11:02-00:00:30": "1880-12-01T11:02:00-00:00:30",
    "0001-01-01T00:00:00.000001-23:59:59.999999": "0001-01-01T00:00:00.000001-23:59:59.999999",
    # JavaScript, Go, Java, .NET, PostgreSQL, PHP.
    "2025-12-01T11:02:28.905Z": "2025-12-01T11:02:28.905000+00:00",
    "2025-12-01T11:02Z": "2025-12-01T11:02:00+00:00",
    "2025-12-01T11:02:28z": "2025-12-01T11:02:28+00:00",
    "2025-12-01T11:02:28.905136789Z": "2025-12-01T11:02:28.905136+00:00",
    "2025-12-01T11:02:28.9051367+01:00": "2025-12-01T11:02:28.905136+01:00",
    "2025-12-01T11:02:28.9-00": "2025-12-01T11:02:28.900000+00:00",
    "2025-12-01T11:02:28,905+01": "2025-12-01T11:02:28.905000+01:00",
    "2025-12-01T11:02:28-0130": "2025-12-01T11:02:28-01:30",
    # The basic format, alone and mixed with the extended one.
    "20251201T110228Z": "2025-12-01T11:02:28+00:00",
    "20251201T110228.905136+0100": "2025-12-01T11:02:28.905136+01:00",
    "20251201T1102": "2025-12-01T11:02:00",
    "20251201T11-00:00": "2025-12-01T11:00:00+00:00",
    "20251201T11:02:28": "2025-12-01T11:02:28",
    "2025-12-01T110228Z": "2025-12-01T11:02:28+00:00",
    # ISO weeks.
    "2025-W49-1T11:02:28.905Z": "2025-12-01T11:02:28.905000+00:00",
    "2024-W01-1T10": "2024-01-01T10:00:00",
    "2025W491T110228+0100": "2025-12-01T11:02:28+01:00",
    "2026-W53-7T11:02": "2027-01-03T11:02:00",
    # Midnight at the end of a day.
    "2025-12-31T24:00": "2026-01-01T00:00:00",
    "20251231T240000Z": "2026-01-01T00:00:00+00:00",
    "2025-W49-1T24:00:00.000+01:00": "2025-12-02T00:00:00+01:00",
}
TEXTS = [
    # No full date, or one that is not in the calendar.
    *("2024T12", "2024-12T12:00", "202412T12:00", "2025-W49T11:02", "2025W49T11", "24-12-01T11:02"),
    *("2025-335T11:02:28", "2025335T110228", "2025120T11", "2025-12-1T11:02", "--12-01T11:02"),
    *("2025-02-29T11:02:28", "0000-01-01T11:02:28", "20251301T11", "2025-W01-8T11:02:28"),
    *("2025-W54-1T11", "9999-W52-7T11:02:28", "+012025-12-01T11:02:28.905Z"),
    # No full hour, or one that is not on the clock.
    *("2025-12-01T", "2025-12-01T1:02", "2025-12-01T 1:02:28", "2025-12-01T+1:02:28"),
    *("2025-12-01T11:2:28", "2025-12-01T11:02: 8", "2025-12-01T11:02:28."),
    *("2025-12-01T11:02:60", "2025-12-01T25:00", "2025-12-01T24:01", "9999-12-31T24:00:00"),
    # Fractions of hours and minutes, and other separators.
    *("2025-12-01T11.5", "2025-12-01T11:02,5Z", "20251201T1102.5", "2025-12-01T11:02:28:905"),
    *("2025-12-01T11:0228", "2025-12-01T1102:28", "2025-1201T11:02", "2025-W491T11:02:28"),
    *("2025-12-01 11:02:28T", "2025-12-01 11:02T+01:00", "20251201x11T+01"),
    # Offsets.
    *("2025-12-01T11:02:28+24:00", "20251201T110228+22:99", "2025-12-01T11:02:28+1"),
    *("20251201T110228Z+01:00", "2025-12-01T11:02:28 +01:00", "2025-12-01T11:02:28 UTC"),
    *("2025-12-01T11:02:28+01:00[Europe/Berlin]", "2025-12-01T11:02:28+01:", "2025-12-01TZ"),
    # Other characters before, after and in between.
    *(" 2025-12-01T11:02:28", "2025-12-01T11:02:28\n", "20251201T110228Z\0", "x2025-12-01T11"),
    *(
        "2025\u201012\u201001T11:02:28",
        "\u0662\u0660\u0662\u0665-12-01T11:02:28",
        "2_25-12-01T11:02",
    ),
    *("Thomas", "T", "T11:02:28", "2025-12-01Thomas", "ABCDEFGHIJTKL:MN:OP", "2025-12-01T::::::"),
]


def basic(moment: datetime) -> str:
    day, clock = moment.isoformat(timespec="seconds").split("T")
    return day.replace("-", "") + "T" + clock.replace(":", "")


def week(moment: datetime) -> str:
    year, number, weekday = moment.isocalendar()
    return f"{year:04}-W{number:02}-{weekday}" + moment.isoformat()[10:]


def utc(moment: datetime) -> str:
    text = moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


WRITERS: list[Callable[[datetime], str]] = [datetime.isoformat, basic, week, utc]
minutes = st.integers(-1439, 1439)


class TestDatetimes:
    @pytest.mark.parametrize(("text", "iso"), DATETIMES.items())
    def test_what_programs_write_means_the_same_on_every_python(self, text: str, iso: str) -> None:
        stored = json.dumps({"at": text, "history": [{"at": text}]})
        order = deserialize_order(stored)

        assert order == {"at": order["at"], "history": [{"at": order["at"]}]}
        assert type(order["at"]) is datetime
        assert order["at"].isoformat() == iso
        assert order["at"].tzinfo is None or type(order["at"].tzinfo) is timezone
        assert json.loads(serialize_order(order))["at"] == iso

    @pytest.mark.parametrize("text", TEXTS)
    def test_other_texts_stay_as_they_are_on_every_python(self, text: str) -> None:
        order = {"at": text, "history": [{"at": text}]}
        assert deserialize_order(json.dumps(order)) == order

    @given(
        st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), minutes, st.sampled_from(WRITERS)
    )
    def test_each_moment_is_read_from_each_form(
        self, moment: datetime, offset: int, write: Callable[[datetime], str]
    ) -> None:
        text = write(moment.replace(tzinfo=timezone(timedelta(minutes=offset))))
        read = deserialize_order(json.dumps({"at": text}))["at"]
        assert isinstance(read, datetime)
        assert write(read) == text

    def test_dateutil_is_imported_only_for_what_this_python_refuses(self) -> None:
        code = f"""
import sys
from upstash_state import deserialize_order
order = deserialize_order('{{"at": "{NOON_ISO}", "name": "Thomas", "day": "2024T12"}}')
print(type(order["at"]).__name__, "dateutil" in sys.modules)
order = deserialize_order('{{"at": "2025-12-31T11:02:28z"}}')
print(type(order["at"]).__name__, "dateutil" in sys.modules)
"""
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
        )
        assert run.stdout.split() == ["datetime", "False", "datetime", "True"], run.stderr


FRAGMENTS = [
    "{}",
    " {} ",
    '{"at": "2025-12-01T12:00:00+01:00", "deep": [{"at": {"$date": "2025-12-01T12:00:00"}}]}',
    '{"a": 1',
    '"b": 2}',
    "[1",
    "2]",
    "{}], [{}",
    "{},{}",
    '{},"",{}',
    "[]",
    "null",
    "NaN",
    "",
    ",",
    "\ufeff{}",
    '{"a": "' + "\\" + '"',
    "[" * 100_000 + "]" * 100_000,
]


@given(st.lists(st.sampled_from(FRAGMENTS + [each["stored"] for each in STORED_ORDERS[:3]])))
@example([each["stored"] for each in STORED_ORDERS])
@example(["{}"] * 40 + ["[1", "2]"] + ["{}"] * 40)
@example(["[1", "2]", '{},"",{}'])
@example(["[1"])
def test_many_orders_are_read_as_each_alone_would_be(texts: list[str]) -> None:
    def outcome(text: str) -> Any:
        try:
            return deserialize_order(text)
        except OrderUnreadableError as error:
            return str(error)

    together = [
        str(order) if isinstance(order, OrderUnreadableError) else order
        for order in deserialize_orders(texts)
    ]
    assert repr(together) == repr([outcome(text) for text in texts])


def test_many_orders_share_their_keys() -> None:
    one, other = deserialize_orders(['{"status": "new"}', '{"status": "old"}'])
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    assert next(iter(one)) is next(iter(other))


class OrderId(str, Enum):
    MAIN = "5866"


class Number(IntEnum):
    MAIN = 5866


class Loud(str):
    def __str__(self) -> str:
        return "LOUD"

    __repr__ = __str__


class LoudNumber(int):
    def __str__(self) -> str:
        return "LOUD"

    __repr__ = __str__


@pytest.mark.parametrize(
    "order_id",
    ["5866", 5866, OrderId.MAIN, Number.MAIN, Loud("5866"), LoudNumber(5866)],
    ids=["str", "int", "str enum", "int enum", "str subclass", "int subclass"],
)
def test_an_enum_as_order_id_is_its_value_on_every_python(order_id: Any) -> None:
    assert order_id_text(order_id) == shown_order_id(order_id) == "5866"
    assert type(order_id_text(order_id)) is str


Odd = type("Odd\nERROR", (), {})


class Unwritable:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


@pytest.mark.parametrize(
    ("order_id", "reason", "shown"),
    [
        (None, "NoneType, must be str or int", "<NoneType>"),
        (True, "bool, must be str or int", "<bool>"),
        (1.5, "float, must be str or int", "<float>"),
        (b"1", "bytes, must be str or int", "<bytes>"),
        (["1"], "list, must be str or int", "<list>"),
        (Unwritable(), "Unwritable, must be str or int", "<Unwritable>"),
        (10**5000, "an int of more than 4300 digits$", "<int>"),
        (-(10**5000), "an int of more than 4300 digits$", "<int>"),
        ("5866\ud83d", "the REST API cannot carry this str: 'utf-8' codec", "5866\\ud83d"),
        (Odd(), r"Odd\\nERROR, must be str or int", r"<Odd\nERROR>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_invalid_order_id_is_refused_and_can_still_be_shown(
    order_id: Any, reason: str, shown: str
) -> None:
    with pytest.raises(DataError, match=f"^invalid order id: {reason}"):
        order_id_text(order_id)
    assert shown_order_id(order_id) == shown


@pytest.mark.parametrize(
    ("order_id", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("\u202eabc", r"\u202eabc"),
        ("\x1b[2J", r"\x1b[2J"),
        ("Zoë 1", "Zoë 1"),
        ("5866" * 100_000, "5866" * 50 + "…"),
        (10**4000, "1" + "0" * 199 + "…"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_order_id_is_shown_on_one_line_of_bounded_length(
    order_id: str | int, shown: str
) -> None:
    assert order_id_text(order_id) == str(order_id)
    assert shown_order_id(order_id) == shown


def test_an_order_id_that_raises_can_still_be_shown() -> None:
    assert shown_order_id(Proxy()) == "<Proxy>"


def test_a_type_with_the_name_of_a_builtin_is_named_with_its_module() -> None:
    # As numpy.bool has: "bool - convert it to … bool" would be no advice.
    other = type("bool", (), {"__module__": "numpy"})()
    orders: tuple[dict[Any, Any], ...] = ({"paid": other}, {other: 1})
    for order in orders:
        with pytest.raises(OrderNotSerializableError, match=r"numpy\.bool - convert it to text"):
            serialize_order(order)
