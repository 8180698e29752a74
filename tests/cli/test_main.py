"""How commands start, complain and end."""

from __future__ import annotations

import errno
import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.support.cli import (
    SECONDS,
    TOKEN,
    Environment,
    Gate,
    Terminal,
    Tool,
    environment,
    names,
    piped,
    put,
)
from upstash_state import OrderStore, __version__, serialize_order
from upstash_state.cli import main as cli
from upstash_state.cli.meter import Cost
from upstash_state.local import LocalEndpoint


@pytest.mark.parametrize("command", [("list",), ("list", "--json"), ("export", "-")])
def test_it_ends_quietly_when_the_reader_closes_the_pipe(
    many: LocalEndpoint, command: tuple[str, ...]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "upstash_state", *command],
        env=environment(many.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(SECONDS) == 141


def test_the_apps_prefix_counts(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(few, "shop*:1", "{}")
    put(few, "shop2:1", "{}")
    monkeypatch.setenv("UPSTASH_STATE_PREFIX", "shop*:")
    assert tool("count").out == "1\n"
    assert tool("list").out.startswith("1\t")
    assert tool("delete", "1", "--yes").out == "1 order deleted\n"


def test_a_setting_that_cannot_be_used_is_named(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTASH_STATE_TTL", "a week")
    status, out, err = tool("count")
    assert (status, out) == (0, "0\n")
    assert err.startswith("upstash-state: UPSTASH_STATE_TTL is not a whole number")


def test_without_credentials_it_says_which_variables_to_set(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UPSTASH_REDIS_REST_URL")
    status, out, err = tool("count")
    assert (status, out) == (1, "")
    assert "UPSTASH_REDIS_REST_URL is not set, UPSTASH_REDIS_REST_TOKEN is set" in err


def test_a_refusal_points_to_the_doctor(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", "wrong")
    status, out, err = tool("count")
    assert (status, out) == (1, "")
    assert "WRONGPASS" in err
    assert "upstash-state doctor" in err


def test_a_logged_error_is_shown_and_makes_the_status_1(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gate(few.url).open() as gate:
        put(few, "order:large", "{}")
        put(few, "order:small", "{}")
        gate.answer = lambda body: (
            (400, '{"error": "ERR max request size exceeded"}')
            if "order:large" in body and names(body) == ["MGET"]
            else None
        )
        monkeypatch.setenv("UPSTASH_REDIS_REST_URL", gate.url)
        status, out, err = tool("list")
    assert status == 1
    assert out.startswith("small\t")
    assert err.startswith("upstash-state: Failed to get order large from Redis: ERR max request")


@pytest.mark.parametrize(
    "args",
    [
        ("doctor",),
        ("list",),
        ("show", "1"),
        ("count",),
        ("delete", "1", "--yes"),
        ("delete", "--older-than", "1d", "--yes"),
        ("demo", "--endpoint", "env"),
    ],
)
def test_ctrl_c_ends_it_without_a_traceback(endpoint: LocalEndpoint, args: tuple[str, ...]) -> None:
    with Gate(endpoint.url).open() as gate:
        gate.holds = lambda body: True
        with Terminal(environment(gate.url), *args) as terminal:
            assert gate.holding.wait(SECONDS)
            assert terminal.interrupt() == 130
    assert "Traceback" not in terminal.text
    assert "upstash-state: interrupted" in terminal.text


def test_ctrl_c_while_it_is_being_imported_ends_it_without_a_traceback() -> None:
    code = (
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *args):\n"
        "        if name == 'upstash_state.cli.list': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from upstash_state.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment("", ""), capture_output=True, timeout=SECONDS
    )
    assert (done.returncode, done.stderr) == (130, b"")


def closed(env: Environment, stream: str, *args: str) -> tuple[int, str, str]:
    """Run the tool as a shell does for `2>&-`."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {stream}&-', "sh", sys.executable, "-m", "upstash_state", *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("show", "-"), 0, ""),
        (("import", "-"), 0, "0 orders: nothing to do"),
        (("delete", "1"), 2, "Standard input is not a terminal to ask in: pass --yes."),
    ],
)
def test_a_closed_standard_input_is_an_empty_one(
    few: LocalEndpoint, args: tuple[str, ...], status: int, said: str
) -> None:
    ended, out, err = closed(environment(few.url), "<", *args)
    assert ended == status, err
    assert said in out + err
    assert "Traceback" not in err


def test_a_closed_standard_error_stops_nothing(few: LocalEndpoint, tmp_path: Path) -> None:
    put(few, "order:1", "{}")
    file = str(tmp_path / "orders.jsonl")
    env = environment(few.url)
    assert closed(env, "2>", "export", file)[:2] == (0, f"1 order exported to {file}\n")
    assert closed(env, "2>", "delete", "1", "2", "--yes")[:2] == (0, "1 order deleted\n")
    assert closed(env, "2>", "import", file)[:2] == (0, "1 order: 1 written\n")
    assert closed(env, "2>", "list", "--columns", "id")[:2] == (0, "1\n")


@pytest.mark.parametrize(
    "args", [("doctor",), ("list",), ("export", "-"), ("delete", "1", "--yes")]
)
def test_with_a_closed_standard_output_nothing_is_done(
    few: LocalEndpoint, tool: Tool, args: tuple[str, ...]
) -> None:
    put(few, "order:1", "{}")
    said = "upstash-state: standard output is closed\n"
    assert closed(environment(few.url), ">", *args) == (1, "", said)
    assert tool("count").out == "1\n"


def test_arguments_are_utf_8_whatever_the_locale(few: LocalEndpoint) -> None:
    put(few, "order:Zoë", serialize_order({"status": "🍕"}))
    env = environment(few.url, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", LC_ALL="C")
    assert piped(env, "show", "Zoë").out.startswith("id          Zo\\xeb\n")
    assert piped(env, "list", "--columns", "id", "--status", "🍕").out == "Zo\\xeb\n"
    assert piped(env, "delete", "Zoë", "--yes").out == "1 order deleted\n"


def test_an_empty_id_is_valid(few: LocalEndpoint, tool: Tool) -> None:
    """A script passes one if its variable is not set."""
    assert tool("show", "") == (1, "", "upstash-state: there is no order \n")
    put(few, "order:", "{}")
    assert tool("show", "").status == 0
    assert tool("delete", "", "--yes").out == "1 order deleted\n"


def test_one_of_something_is_singular(few: LocalEndpoint, tool: Tool, tmp_path: Path) -> None:
    put(few, "order:1", "{}")
    exported, broken, cut = (str(tmp_path / name) for name in ("f", "broken", "cut.gz"))
    shown = tool("export", exported).out + tool("import", exported).out
    shown += tool("list", "--sort", "id").out + tool("doctor").out
    shown += tool("delete", "1", "--dry-run").out + tool("delete", "1", "--yes").out
    line = Path(exported).read_text()
    Path(broken).write_text(line + "{\n" * 21)
    shown += tool("import", broken).err
    Path(cut).write_bytes(gzip.compress(line.encode())[:-4])
    shown += tool("import", cut).err
    for count in ("1 order exported", "1 order with keys", "1 more line not", "after 1 line:"):
        assert count in shown
    shown += str(Cost(1, 1))
    assert not re.search(r"(?<![\d,.])1 (?!ms)\w+s\b", shown), shown


def test_without_a_command_it_shows_help(tool: Tool) -> None:
    status, out, err = tool()
    assert (status, err) == (0, "")
    assert tool("--help") == (0, out, "")
    for command in COMMANDS:
        assert re.search(rf"^  {command} +[A-Z]", out, re.M)
    assert "Examples:\n" in out


COMMANDS = [str(command.name) for command in cli.COMMANDS]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_into_a_terminal_and_has_examples(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = tool(command, "--help")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert re.search(rf"  Examples?:\n    upstash-state {command}\b", out)


def test_version(tool: Tool) -> None:
    assert tool("--version") == (0, f"upstash-state {__version__}\n", "")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("lst",), "No such command 'lst'. Did you mean 'list'? Try 'upstash-state --help'."),
        (("",), "No such command ''. Try 'upstash-state --help'."),
        (("list", "--jsn"), "No such option '--jsn'. Did you mean '--json'?"),
        (("delete", "--older-then=2d"), "Did you mean '--older-than'?"),
        (("list", "--sort", "nam"), "'nam' is not one of 'id', "),
        (("list", "--sort", ""), "'' is not one of 'id', "),
        (("list", "--limit", "0"), "0 is not in the range 1<="),
        (("list", "--columns", "id,nam"), "'nam' is not one of 'id', "),
        (("show",), "Missing argument 'ID...'. Try 'upstash-state show --help'."),
        (
            ("delete",),
            "Give IDs or --older-than, one of the two. Try 'upstash-state delete --help'.",
        ),
        (("delete", "1", "--older-than", "2d"), "one of the two."),
        (("delete", "--older-than", "2 days"), "'2 days' is not a time such as "),
        (("delete", "--older-than", "-2d"), "'-2d' is not a time such as "),
        (("demo", "--endpoint", ""), "'' is not one of 'local', 'env'"),
        (("serve", "--token", ""), "Invalid value for '--token': token is empty."),
        (("serve", "--errors", "2"), "'2' is not a share such as 20% or 0.2"),
        (("import",), "Missing argument 'FILE'."),
    ],
)
def test_wrong_usage_is_named_in_one_line(tool: Tool, args: tuple[str, ...], said: str) -> None:
    status, out, err = tool(*args)
    assert (status, out) == (2, "")
    assert said in err
    assert err.startswith("upstash-state: ")
    assert err.count("\n") == 1


def test_a_closed_pipe_on_windows_is_an_invalid_argument(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows raises this error; here the test does."""

    def closed(*args: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(OrderStore, "count", closed)
    assert tool("count").status == 1
    with monkeypatch.context() as patch:
        patch.setattr(cli, "WINDOWS", True)
        patch.setattr(os, "dup2", lambda *args: None)
        assert tool("count") == (141, "", "")


def test_ids_go_through_a_pipe_on_windows(few: LocalEndpoint) -> None:
    put(few, "order:Zoë", "{}")
    code = (
        "import os, sys; from upstash_state.cli import main as cli\n"
        "cli.WINDOWS, os.system = True, lambda command: 0\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    env = environment(few.url, PYTHONUTF8="0", PYTHONIOENCODING="cp1252")
    command = [sys.executable, "-c", code]
    listed = subprocess.run(
        [*command, "list", "--columns", "id"], env=env, capture_output=True, timeout=SECONDS
    )
    assert listed.stdout == "Zoë\n".encode()
    shown = subprocess.run(
        [*command, "show", "-"], env=env, input=listed.stdout, capture_output=True, timeout=SECONDS
    )
    assert shown.stdout.decode().startswith("id          Zoë\n")


@pytest.mark.parametrize("module", ["click", "rich", "dotenv"])
@pytest.mark.parametrize("args", [["count"], ["--help"]])
def test_without_the_extra_it_says_what_to_install(module: str, args: list[str]) -> None:
    code = (
        f"import runpy, sys; sys.modules[{module!r}] = None; sys.argv[1:] = {args}\n"
        "runpy.run_module('upstash_state', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment("", ""), capture_output=True, timeout=SECONDS
    )
    assert (done.returncode, done.stdout) == (1, b"")
    said = f"upstash-state: {module} is missing: pip install 'upstash-state[cli]'\n"
    assert done.stderr.decode() == said


def test_the_library_does_not_need_the_extra() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('click', 'rich', 'dotenv')))\n"
        "import upstash_state, upstash_state.aio; upstash_state.get_redis_client"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment("", ""), capture_output=True, timeout=SECONDS
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("ex", "export"),
        ("list --st", "--status"),
        ("list --sort a", "age"),
        ("serve --verb", "--ve"),
    ],
)
def test_a_shell_completes_commands_options_and_choices(words: str, completed: str) -> None:
    env = environment("", "", _UPSTASH_STATE_COMPLETE="bash_complete")
    words = f"upstash-state {words}"
    completion = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert f",{completed}" in piped({**env, **completion}).out


def test_a_shell_gets_its_completion() -> None:
    shown = piped(environment("", "", _UPSTASH_STATE_COMPLETE="zsh_source"))
    assert (shown.status, shown.err) == (0, "")
    assert "#compdef upstash-state" in shown.out


URL, URL_TOKEN = "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"


def test_the_file_of_variables_in_the_current_directory_is_read(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(few, "shop:1", "{}")
    file = f"{URL}={few.url}\nexport {URL_TOKEN}='{TOKEN}'\nUPSTASH_STATE_PREFIX=shop:\n"
    (tmp_path / ".env").write_text(file)
    monkeypatch.delenv(URL)
    monkeypatch.delenv(URL_TOKEN)
    assert tool("list", "--columns", "id") == (0, "1\n", "")
    # The environment takes precedence.
    monkeypatch.setenv("UPSTASH_STATE_PREFIX", "order:")
    assert tool("count").out == "0\n"
    monkeypatch.setenv(URL_TOKEN, "wrong")
    assert tool("count").status == 1


def test_only_variables_of_the_package_are_read(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Other variables could send the token to another host."""
    (tmp_path / ".env").write_text("HTTPS_PROXY=http://127.0.0.1:9\nUPSTASH_STATE_PREFIX=shop:\n")
    read = lambda store: [store.prefix, os.environ.get("HTTPS_PROXY")]  # noqa: E731
    monkeypatch.setattr(OrderStore, "count", read)
    assert tool("count").out == "['shop:', None]\n"


def test_the_environment_is_as_before_in_the_end(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("UPSTASH_STATE_PREFIX=shop:")
    before = dict(os.environ)
    assert tool("count").status == 0
    assert dict(os.environ) == before


@pytest.mark.parametrize("content", [b"\0\xff", b"\xff\xfeU\0", b"a line\n=\n'\n" * 3, b""])
def test_a_file_of_variables_that_cannot_be_read_stops_nothing(
    few: LocalEndpoint, tool: Tool, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / ".env").write_bytes(content)
    status, out, err = tool("count")
    assert (status, out) == (0, "0\n")
    assert "Traceback" not in err


def test_a_fifo_or_a_directory_is_no_file_of_variables(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / ".env")
    assert tool("count") == (0, "0\n", "")
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    assert tool("count") == (0, "0\n", "")


def test_a_line_for_a_terminal_is_broken_between_words_only(few: LocalEndpoint) -> None:
    with Terminal(environment(few.url, COLUMNS="80"), "delete") as terminal:
        assert terminal.end() == 2
    lines = terminal.text.splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
    assert " ".join(lines) == piped(environment(few.url), "delete").err.strip()


WORDS = st.sampled_from(
    [
        *(f"--{name}" for name in ("json", "limit", "status", "sort", "columns", "older-than")),
        *(f"--{name}" for name in ("yes", "dry-run", "force", "endpoint", "port", "token", "x")),
        *("--help", "--", "-", "", "0", "1", "-1", "2d", "id,age", "ttl", "x\ny", "\udcff", "🍕"),
    ]
)


# Neither `serve` nor `browse`, which go on, nor `demo`, which starts a process.
@pytest.mark.parametrize("command", ["", "doctor", "list", "show", "count", "delete", "import"])
@hypothesis.settings(
    max_examples=25,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(args=st.lists(WORDS, max_size=5))
def test_no_arguments_are_a_traceback(
    few: LocalEndpoint, tool: Tool, command: str, args: list[str]
) -> None:
    put(few, "order:1", "{}")
    status, _, err = tool(*[command] * bool(command), *args)
    assert status in (0, 1, 2)
    assert "Traceback" not in err
