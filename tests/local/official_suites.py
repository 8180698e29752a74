"""Run Upstash's own test suites against the embedded endpoint, and put each failure into a class.

    python -m tests.local.official_suites --redis-py DIR --ratelimit-py DIR
    python -m tests.local.official_suites --redis-js DIR --ratelimit-js DIR

Each DIR is a checkout of github.com/upstash/… that you have: nothing is fetched here. The suites in
Python need pytest, pytest-asyncio, python-dotenv and httpx, ratelimit-py also needs upstash-redis
(`--python` names an interpreter that has them). Those in JavaScript need bun: redis-js with the
package uncrypto, ratelimit-js with @upstash/redis and @upstash/core-analytics.

Each suite runs over a Redis server and then over fakeredis. The server is the one of `--redis-url`,
which is emptied, or one that is started. A test that passes over Redis and fails over fakeredis
shows a fault of fakeredis. An old Redis, or one without JSON, cannot show that: lend a Redis 8.

A failure is "ours" unless a rule explains it. Exit status: 1 if there is such a failure, or if
something fails over fakeredis because it has no Lua or JSON.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.support.servers import redis_server
from upstash_state.local import LocalEndpoint

SECONDS = 1200.0
OURS = "ours"
FAKEREDIS = "fakeredis: passes over Redis"
LUA_OR_JSON = "want of lua or json"
TIME = "the suite's own clock: passes when run again, or fails over anything"
REDIS = "Redis, too, answers otherwise than Upstash"
INTERNET = "needs a list from the internet"
SEARCH = "Upstash Search, which only Upstash has"
OLDER = "a command that this Redis or fakeredis is too old for"
UNDECIDED = "undecided: the Redis server lacks the command"

#: Class, and what is in "suite: test: text" of a failure. The first that fits counts.
RULES = (
    (INTERNET, r"^ratelimit-js: src/deny-list/"),
    (SEARCH, r"unknown command '(?i:search)\."),
    (SEARCH, r"^redis-js: pkg/commands/search/"),
    (LUA_OR_JSON, r"unknown command '(?i:json\.(?!resp)|eval|evalsha|script)\b"),
    # Replies of SCAN, of JSON paths with several matches: their order and pages are Redis' own.
    (REDIS, r"test_scan\.py::test_with_(match|scan_type)"),
    (REDIS, r"json/test_json_\w+\.py::\w+_wildcard"),
    (REDIS, r"pkg/commands/json_(get|mget|objlen|arrlen)\.test\.ts"),
    # Upstash refuses it, as it would a path in a key that does not exist.
    (REDIS, r"test_json_set\.py::test_set_nonexisting_path"),
    # Redis trims with ~ by whole nodes of 100 entries.
    (REDIS, r"test_xlen\.py::test_xlen_after_trimming|XLEN > should approximately trim"),
    # LIMIT without BYSCORE or BYLEX, a group that does not exist, a key copied onto itself,
    # SCAN WITHTYPE, an expiry in the past, an entry acknowledged twice, NOACK's consumer: Redis
    # refuses or reports these, Upstash does not.
    (REDIS, r"test_zrangestore_limit|test_xinfo_nonexistent_group|test_xackdel_already_ack"),
    (REDIS, r"COPY test > should handle same source|withType > returns cursor"),
    (REDIS, r"use all the things > works|NOACK > should return 0 items"),
    (REDIS, r"FCALL_RO (allows|rejects) .*"),
    # An expiry in seconds is rounded up by Redis, or a second passed.
    (TIME, r"test_hexpiretime_returns_correct_expiry|test_setex\.py::test_setex"),
    (TIME, r"test_get_remaining_with_sliding|returns the ttl on a key"),
    (OLDER, r"unknown command|BITOP (DIFF|DIFF1|ANDOR|ONE)|bitop"),
)


class Suite:
    """One suite in its checkout."""

    def __init__(self, name: str, directory: Path, command: list[str]) -> None:
        self.name = name
        self.directory = directory
        self.command = command

    def run(self, endpoint: LocalEndpoint) -> tuple[int, dict[str, str]]:
        """How many tests passed, and for each that did not, what it said."""
        environ = {
            **os.environ,
            "UPSTASH_REDIS_REST_URL": endpoint.url,
            "UPSTASH_REDIS_REST_TOKEN": endpoint.token,
            "PYTHONPATH": str(self.directory),
        }
        with tempfile.TemporaryDirectory() as directory:
            report = Path(directory) / "report.xml"
            result = subprocess.run(
                [argument.replace("REPORT", str(report)) for argument in self.command],
                cwd=self.directory,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SECONDS,
            )
            outcomes = list(_junit(report) if report.exists() else _bun(result.stdout))
        if not outcomes:
            raise SystemExit(f"{self.name} did not run:\n{result.stdout[-2000:]}")
        passed = sum(text is None for _, text in outcomes)
        return passed, {test: text for test, text in outcomes if text is not None}


def _junit(report: Path) -> Iterator[tuple[str, str | None]]:
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        path = case.get("classname", "").replace(".", "/")
        failed = [child for child in case if child.tag in ("failure", "error")]
        text = " ".join(f"{child.get('message')} {child.text}" for child in failed)
        yield f"{path}.py::{case.get('name')}", text if failed else None


def _bun(output: str) -> Iterator[tuple[str, str | None]]:
    file = ""
    said: list[str] = []
    for line in output.partition(" tests failed:\n")[0].splitlines():
        if heading := re.fullmatch(r"(\S+\.test\.ts):", line):
            file, said = heading[1], []
        elif test := re.fullmatch(r"\((pass|fail)\) (.*?)(?: \[[\d.]+ms\])?", line):
            yield f"{file} {test[2]}", None if test[1] == "pass" else "\n".join(said)
            said = []
        else:
            said.append(line)


def classified(suite: str, test: str, text: str) -> str:
    """Whose a failure is, by what it said."""
    whole = f"{suite}: {test}: {text}"
    return next((name for name, pattern in RULES if re.search(pattern, whole)), OURS)


def main(argv: list[str] | None = None) -> int:
    """Run what is asked for and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("redis-py", "ratelimit-py", "redis-js", "ratelimit-js"):
        parser.add_argument(f"--{name}", type=Path, metavar="DIR")
    parser.add_argument("--redis-url", metavar="URL", help="a server to empty; else one is started")
    parser.add_argument("--python", default=sys.executable, metavar="PATH")
    parser.add_argument("--bun", default=shutil.which("bun"), metavar="PATH")
    args = parser.parse_args(argv)
    pytest = [args.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=REPORT"]
    bun = [args.bun, "test", "--timeout", "20000"]
    suites = [
        Suite(name, directory.resolve() / folder, command)
        for name, directory, folder, command in (
            ("redis-py", args.redis_py, "", pytest),
            ("ratelimit-py", args.ratelimit_py, "", pytest),
            ("redis-js", args.redis_js, "packages/redis", [*bun, "pkg"]),
            ("ratelimit-js", args.ratelimit_js, "", [*bun, "src"]),
        )
        if directory
    ]
    ours = 0
    for suite in suites:
        with ExitStack() as stack:
            url = args.redis_url or stack.enter_context(redis_server())
            over_redis = suite.run(stack.enter_context(LocalEndpoint(redis_url=url)))
            over_fakeredis = suite.run(stack.enter_context(LocalEndpoint()))
        redis = {test: classified(suite.name, test, text) for test, text in over_redis[1].items()}
        fake = {
            test: classified(suite.name, test, text) for test, text in over_fakeredis[1].items()
        }
        for test, name in fake.items():
            if test not in redis:
                fake[test] = FAKEREDIS
            elif name == OURS and redis[test] in (LUA_OR_JSON, OLDER):
                fake[test] = UNDECIDED
        ours += _report(f"{suite.name} over Redis", *over_redis, redis, {OURS})
        ours += _report(f"{suite.name} over fakeredis", *over_fakeredis, fake, {OURS, LUA_OR_JSON})
    return int(ours > 0)


def _report(
    title: str, passed: int, failed: dict[str, str], classes: dict[str, str], wrong: set[str]
) -> int:
    """Print the counts, and what is wrong in full; how many are."""
    print(f"\n{title}: {passed} of {passed + len(failed)} passed")
    for name, count in Counter(classes.values()).most_common():
        print(f"  {count:4}  {name}")
    shown = [test for test, name in classes.items() if name in wrong]
    for test in shown:
        print(f"        {test}\n          {failed[test].strip()[-300:]}")
    sys.stdout.flush()
    return len(shown)


if __name__ == "__main__":
    sys.exit(main())
