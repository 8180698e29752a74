"""`browse`: the server, and the page in Chromium."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
import requests

from tests.support.browser import WITHOUT_CHROMIUM, Browser, browser
from tests.support.cli import SECONDS, TOKEN, TTL, Gate, Terminal, environment, put
from upstash_state import OrderStore, UpstashRedis, serialize_order
from upstash_state.cli import browse
from upstash_state.local import LocalEndpoint


@pytest.fixture
def server(few: LocalEndpoint) -> Iterator[browse.Server]:
    with UpstashRedis(few.url, few.token) as client, browse.Server(OrderStore(client)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def get(server: browse.Server, path: str, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(server.origin + path, headers=headers, timeout=SECONDS)


def fill(few: LocalEndpoint, count: int = 3) -> None:
    now = datetime.now(timezone.utc)
    with UpstashRedis(few.url, few.token) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(count):
            created = now - timedelta(minutes=number)
            order = {"name": f"#{number}", "status": "new" if number % 2 else "done"}
            text = serialize_order({**order, "created_at": created})
            pipeline.set(f"order:{number}", text, ex=TTL)
        pipeline.execute()


def test_the_orders_are_sorted_the_youngest_first(
    few: LocalEndpoint, server: browse.Server
) -> None:
    fill(few)
    answer = get(server, f"{server.path}orders")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert [order["id"] for order in answer.json()["orders"]] == ["0", "1", "2"]
    first = answer.json()["orders"][0]
    assert (first["name"], first["status"]) == ("#0", "done")
    assert '"name": "#0"' in first["text"]
    assert (answer.json()["problem"], answer.json()["age"] < SECONDS) == ("", True)


def test_300_orders_cost_at_most_4_commands_however_many_pages_are_open(
    few: LocalEndpoint, server: browse.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(few, 300)
    now = [1000.0]
    monkeypatch.setattr(browse, "monotonic", lambda: now[0])
    before = few.usage().commands
    for _ in range(3):
        assert len(get(server, f"{server.path}orders").json()["orders"]) == 300
    cost = few.usage().commands - before
    assert 0 < cost <= 4
    now[0] += 8
    assert get(server, f"{server.path}orders").json()["age"] == 8
    assert few.usage().commands - before == cost
    now[0] += 2
    assert get(server, f"{server.path}orders").json()["age"] == 0
    assert few.usage().commands - before == 2 * cost


def test_an_outage_leaves_the_orders_and_says_how_old_they_are(
    gate: Gate, few: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(few)
    now = [1000.0]
    monkeypatch.setattr(browse, "monotonic", lambda: now[0])
    with UpstashRedis(gate.url, few.token) as client, browse.Server(OrderStore(client)) as server:
        assert server.orders()["age"] == 0
        gate.answer = lambda body: (400, '{"error": "ERR max requests limit exceeded"}')
        now[0] += 60
        shown = server.orders()
    assert (len(shown["orders"]), shown["age"]) == (3, 60)
    assert shown["problem"].startswith("ERR max requests limit exceeded")


@pytest.mark.parametrize("path", ["/", "/orders", "/x/", "/favicon.ico", "//"])
def test_other_paths_are_not_found(few: LocalEndpoint, server: browse.Server, path: str) -> None:
    assert get(server, path).status_code == 404
    assert few.usage().requests == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.test"},
        {"Host": "localhost"},
        {"Host": "127.0.0.1:1"},
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_another_host_or_origin_is_refused(
    few: LocalEndpoint, server: browse.Server, headers: dict[str, str]
) -> None:
    for path in (server.path, f"{server.path}orders"):
        assert get(server, path, **headers).status_code == 403
    assert few.usage().requests == 0
    own = {"Host": server.origin.removeprefix("http://"), "Origin": server.origin}
    assert get(server, server.path, **own).status_code == 200


def test_it_only_reads(few: LocalEndpoint, server: browse.Server) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, server.origin + server.path, timeout=SECONDS)
        assert answer.status_code == 501
    assert few.usage().requests == 0


def test_the_page_may_load_nothing_and_holds_no_token(server: browse.Server) -> None:
    pages = [get(server, server.path) for _ in range(2)]
    policies = [page.headers["Content-Security-Policy"] for page in pages]
    assert policies[0] != policies[1]
    assert policies[0].startswith("default-src 'none'; connect-src 'self'; script-src 'nonce-")
    assert {page.headers["Cache-Control"] for page in pages} == {"no-store"}
    assert "NONCE" not in pages[0].text
    assert TOKEN not in pages[0].text + get(server, f"{server.path}orders").text


def test_it_says_where_the_page_is_and_ends_with_ctrl_c(few: LocalEndpoint) -> None:
    fill(few)
    with Terminal(environment(few.url, COLUMNS="80"), "browse") as terminal:
        shown = terminal.expect("Ctrl-C ends it.")
        (url,) = [line for line in shown.splitlines() if line.startswith("http://127.0.0.1:")]
        with requests.Session() as session:
            session.trust_env = False
            assert len(session.get(f"{url}orders", timeout=SECONDS).json()["orders"]) == 3
        assert terminal.interrupt() == 0
    assert "Traceback" not in terminal.text


ROWS = "[...document.querySelectorAll('tbody tr')].map(row => row.innerText.split('\\t'))"
VISIBLE = (
    "Object.defineProperty(document, 'visibilityState', {value: arguments[0], configurable: true});"
    "document.dispatchEvent(new Event('visibilitychange'))"
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if WITHOUT_CHROMIUM:
        pytest.skip(WITHOUT_CHROMIUM)
    with browser() as window:
        yield window


def load(chromium: Browser, server: browse.Server, orders: int) -> None:
    chromium.open(server.origin + server.path)
    chromium.wait(f"{ROWS}.length === {orders}")


def said(chromium: Browser) -> str:
    return str(chromium.run("return document.querySelector('output').innerText"))


def test_in_a_browser_orders_can_be_searched_filtered_and_read(
    chromium: Browser, few: LocalEndpoint, server: browse.Server
) -> None:
    fill(few, 300)
    load(chromium, server, 300)
    rows = chromium.run(f"return {ROWS}")
    assert [row[0] for row in rows[:3]] == ["0", "1", "2"]
    assert rows[1][3:] == ["new", "#1"]
    assert said(chromium).startswith("300 of 300 orders, read ")
    typed = "const [input, text] = [document.querySelector('input'), arguments[0]];"
    chromium.run(f"{typed} input.value = text; input.dispatchEvent(new Event('input'))", "#29")
    assert [row[0] for row in chromium.run(f"return {ROWS}")] == ["29", *map(str, range(290, 300))]
    chosen = "const select = document.querySelector('select');"
    options = chromium.run(f"{chosen} return [...select.options].map(option => option.text)")
    assert options == ["any status", "done", "new"]
    chromium.run(f"{chosen} select.value = 'new'; select.dispatchEvent(new Event('change'))")
    assert [row[0] for row in chromium.run(f"return {ROWS}")] == [
        "29",
        *map(str, range(291, 300, 2)),
    ]
    assert said(chromium).startswith("6 of 300 orders, read ")
    chromium.run("document.querySelector('tbody tr').click()")
    detail = str(chromium.run("return document.querySelector('pre').innerText"))
    assert detail.startswith('{\n  "name": "#29",')


def test_in_a_browser_nothing_in_an_order_is_run_or_becomes_markup(
    chromium: Browser, few: LocalEndpoint, server: browse.Server
) -> None:
    evil = "<img src=x onerror='window.run=1'><script>window.run=1</script><b>\u202e\x00"
    order = {"name": evil, "status": evil, "note": f"</pre>{evil}"}
    put(few, f"order:{evil}", serialize_order(order))
    load(chromium, server, 1)
    chromium.run("document.querySelector('tbody tr').click()")
    assert chromium.run(f"return {ROWS}[0][0]").startswith("<img src=x onerror=")
    assert "</pre><img" in chromium.run("return document.querySelector('pre').innerText")
    assert chromium.run("return document.querySelectorAll('img, b, main script').length") == 0
    assert chromium.run("return window.run") is None


def test_in_a_browser_a_text_that_is_not_an_order_is_shown_as_stored(
    chromium: Browser, few: LocalEndpoint, server: browse.Server
) -> None:
    put(few, "order:1", '{"cut off')
    load(chromium, server, 1)
    chromium.run("document.querySelector('tbody tr').click()")
    assert chromium.run(f"return {ROWS}[0][3]") == "(unreadable)"
    assert chromium.run("return document.querySelector('pre').innerText") == '{"cut off'


def test_in_a_browser_it_reads_again_only_while_it_is_in_view(
    chromium: Browser, few: LocalEndpoint, server: browse.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "FRESH", 0.0)
    fill(few, 1)
    load(chromium, server, 1)
    chromium.run(VISIBLE, "hidden")
    asked = few.usage().requests
    put(few, "order:late", serialize_order({"status": "new"}))
    chromium.run("return refresh()")
    assert few.usage().requests == asked + 1  # That of the order, not of the page.
    chromium.run(VISIBLE, "visible")
    chromium.wait(f"{ROWS}.length === 2")


def test_in_a_browser_an_order_that_is_gone_leaves_the_page(
    chromium: Browser, few: LocalEndpoint, server: browse.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "FRESH", 0.0)
    fill(few, 2)
    load(chromium, server, 2)
    chromium.run("document.querySelector('tbody tr').click()")
    with UpstashRedis(few.url, few.token) as client:
        client.delete("order:0")
    chromium.run("return refresh()")
    chromium.wait(f"{ROWS}.length === 1")
    assert chromium.run("return document.querySelector('pre').innerText") == ""


def test_in_a_browser_a_server_that_has_ended_is_named(
    chromium: Browser, few: LocalEndpoint
) -> None:
    fill(few, 1)
    with UpstashRedis(few.url, few.token) as client, browse.Server(OrderStore(client)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        load(chromium, server, 1)
        server.shutdown()
        thread.join()
    # A connection that the browser has opened before may be answered once more.
    for _ in range(5):
        chromium.run("return refresh()")
    assert said(chromium).endswith("Now: upstash-state browse does not answer")
    assert len(chromium.run(f"return {ROWS}")) == 1
