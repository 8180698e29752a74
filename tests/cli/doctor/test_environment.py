"""What the doctor says of the environment, beside the table of wrong set-ups."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Tool
from tests.support.environ import Environ
from tests.support.faults import Certificates
from tests.support.paths import ROOT
from upstash_state.local import LocalEndpoint

from .conftest import ELSEWHERE, KV, KV_TOKEN, PASSWORD, URL, URL_TOKEN, Doctor

EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")


def test_vercels_names_are_accepted(
    few: LocalEndpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(URL)
    monkeypatch.setenv(KV, few.url)
    monkeypatch.setenv(KV_TOKEN, few.token)
    status, out, _ = Tool(capsys)("doctor")
    assert status == 0
    assert f"{KV} and {KV_TOKEN} from the environment" in out
    assert f"{URL_TOKEN} too: not used" in out


def test_a_ca_bundle_that_does_not_exist(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    monkeypatch.setenv(URL, few.url.replace("http:", "https:"))
    doctor.finds("TLS", "the file that REQUESTS_CA_BUNDLE names cannot", "or unset REQUESTS_CA")


def test_a_ca_bundle_without_a_certificate(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bundle.pem").write_text("no certificate\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "bundle.pem"))
    monkeypatch.setenv(URL, few.url.replace("http:", "https:"))
    doctor.finds("TLS", "REQUESTS_CA_BUNDLE .*: .*no certificate", "unset REQUESTS_CA_BUNDLE")


def test_a_key_log_that_cannot_be_written_is_not_blamed_on_certificates(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "missing" / "keys"))
    monkeypatch.setenv(URL, few.url.replace("http:", "https:"))
    doctor.finds("TLS", "the file that SSLKEYLOGFILE names cannot", "unset SSLKEYLOGFILE")


def test_a_new_key_log_and_a_directory_of_certificates_are_accepted(
    few: LocalEndpoint,
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    port: int,
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    monkeypatch.setenv(URL, f"https://127.0.0.1:{port}")
    doctor.finds("endpoint", "Connection refused", "host and port")


def test_settings_are_shown_as_a_person_writes_them(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"PREFIX": "shop:", "TTL": "3600", "CATCH_UP": "0", "BACKGROUND": "0.5"}
    for name, value in values.items():
        monkeypatch.setenv(f"UPSTASH_STATE_{name}", value)
    monkeypatch.setenv("UPSTASH_STATE_RESTORE_WAIT", "0")
    out = " ".join(doctor.run().out.split()).replace("UPSTASH_STATE_", "")
    assert (
        "ok settings TIMEOUT 30 s, TTL 3600 s, PREFIX shop:, CATCH_UP no, BACKGROUND 0.5 s, "
        "RESTORE_WAIT off; else the defaults" in out
    )


FILE = f"{URL}={ELSEWHERE}\nexport {URL_TOKEN}='{PASSWORD}'\n"


@pytest.mark.parametrize(
    ("text", "variables", "found"),
    [
        (FILE, {}, f"{URL} and {URL_TOKEN} from the file .env here"),
        (f"\ufeff{FILE}", {}, f"{URL} and {URL_TOKEN} from the file .env here"),
        (FILE.replace("\n", "\r\n"), {}, f"{URL} and {URL_TOKEN} from the file .env here"),
        (
            FILE,
            {URL: ELSEWHERE},
            f"{URL} from the environment and {URL_TOKEN} from the file .env here",
        ),
        (
            FILE,
            {URL: ELSEWHERE, URL_TOKEN: PASSWORD},
            f"{URL} and {URL_TOKEN} from the environment",
        ),
        # A token must not be sent to another database's host.
        (
            FILE,
            {KV: ELSEWHERE, KV_TOKEN: PASSWORD},
            f"{KV} and {KV_TOKEN} from the environment",
        ),
    ],
)
def test_it_says_where_url_and_token_come_from(
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    text: str,
    variables: dict[str, str],
    found: str,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _unknown)
    (tmp_path / ".env").write_bytes(text.encode())
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    out = doctor.run().out
    assert out.startswith(f"ok       variables   {found}\n")
    assert ("the app does not read the file .env" in out) is (".env" in found)
    assert f"ok       URL         {ELSEWHERE}\n" in out


def _unknown(*args: object, **options: object) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_it_says_which_settings_come_from_the_file(
    few: LocalEndpoint, doctor: Doctor, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("UPSTASH_STATE_TTL=3600\nUPSTASH_STATE_TIMEOUT=1\n")
    found = "UPSTASH_STATE_TIMEOUT 30 s, UPSTASH_STATE_TTL 3600 s (.env); else the defaults\n"
    assert f"settings    {found}" in doctor.run().out
    doctor.warns("variables", "the app does not read the file .env", r"load_dotenv\(\)")


def test_values_from_the_file_are_a_warning_because_the_app_does_not_read_it(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"{URL}={few.url}\n{URL_TOKEN}={few.token}\nOTHER=1\n")
    # Set in the environment too, for example by load_dotenv().
    assert "All is well." in doctor.run().out
    monkeypatch.delenv(URL)
    monkeypatch.delenv(URL_TOKEN)
    doctor.warns("variables", "the app does not read the file .env", "export.*load_dotenv")


@pytest.mark.parametrize(
    ("text", "check", "found", "advice"),
    [
        (EXAMPLE, "URL", f"{URL} is the placeholder of .env.example", "copy it from"),
        (f"{URL}={ELSEWHERE}\n", "variables", f"{URL_TOKEN} is not set", "copy it from"),
        (f"{URL}: {ELSEWHERE}\n", "variables", f"{URL} is not set", "copy it from"),
        (
            "UPSTAH_REDIS_REST_URL=x\n",
            "variables",
            f"{URL} is not set",
            "UPSTAH_REDIS_REST_URL is set; did",
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_named(
    tool: Tool, tmp_path: Path, text: str, check: str, found: str, advice: str
) -> None:
    (tmp_path / ".env").write_text(text)
    status, out, _ = tool("doctor")
    assert status == 1
    assert re.search(rf"^wrong    {check:11} .*{found}.*\n +-> .*{advice}", out, re.M), out


def test_a_blank_variable_that_hides_the_file_is_named(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(FILE)
    monkeypatch.setenv(URL_TOKEN, "")
    doctor.finds("variables", f"{URL_TOKEN} is blank", "which hides that of .env: unset it")


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_it_says_which_certificates_are_trusted(
    doctor: Doctor,
    certificates: Certificates,
    environ: Environ,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _unknown)
    environ.use(ELSEWHERE, PASSWORD)
    assert "\nok       TLS         trusts the certificates of certifi\n" in doctor.run().out
    environ.set(**{name: str(certificates.bundle)})
    shown = f"trusts {certificates.bundle} ({name})"
    assert f"\nok       TLS         {shown}\n" in doctor.run().out
    environ.set(**{name: "missing.pem"})
    doctor.finds("TLS", f"the file that {name} names cannot be used: No such", f"unset {name}")


def test_redis_own_port_and_a_path_are_named(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, f"{few.url}/{PASSWORD}")
    status, out, _ = doctor.run()
    assert status == 1
    assert "warning  URL         the URL has a path after the host\n" in out
    monkeypatch.setenv(URL, "http://127.0.0.1:6379")
    monkeypatch.setenv("UPSTASH_STATE_TIMEOUT", "0.2")
    _, out, _ = doctor.run()
    assert "warning  URL         port 6379 is usually Redis's own" in out
