"""What people paste into the environment, and what they are told."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support.environ import Environ
from tests.support.paths import ROOT
from upstash_state import OrderStore, UpstashRedis
from upstash_state.errors import MissingCredentialsError, SettingsError
from upstash_state.settings import (
    OPTIONS,
    URL_AND_TOKEN,
    Secret,
    Settings,
    ca_bundle,
    check_token,
    check_url,
    proxy_of,
)

GOOD = {
    "UPSTASH_REDIS_REST_URL": "https://eu1-good.upstash.io",
    "UPSTASH_REDIS_REST_TOKEN": "s3cret-token",
}


@pytest.mark.parametrize(
    "pasted",
    [
        "https://eu1-good.upstash.io",
        "  https://eu1-good.upstash.io\n",
        '"https://eu1-good.upstash.io"',
        "' https://eu1-good.upstash.io/ '",
        "https://eu1-good.upstash.io//",
    ],
)
def test_what_surrounds_a_pasted_url_is_tolerated(pasted: str) -> None:
    settings = Settings(GOOD | {"UPSTASH_REDIS_REST_URL": pasted})
    assert settings.url == "https://eu1-good.upstash.io"


@pytest.mark.parametrize("pasted", [" s3cret-token\n", '"s3cret-token"', "'s3cret-token' "])
def test_what_surrounds_a_pasted_token_is_tolerated(pasted: str) -> None:
    assert Settings(GOOD | {"UPSTASH_REDIS_REST_TOKEN": pasted}).token == "s3cret-token"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("eu1-good.upstash.io", "not a URL that begins with https://"),
        ("ftp://eu1-good.upstash.io", "not a URL that begins with https://"),
        ("https://", "not a URL that begins with https://"),
        ("rediss://default:s3cret@eu1-good.upstash.io:6379", "Redis over TCP (rediss://...)"),
        ("redis://eu1-good.upstash.io:6379", "Redis over TCP (redis://...)"),
        ("https://default:s3cret@eu1-good.upstash.io", "contains a user or password"),
        ("https://s3cret@eu1-good.upstash.io", "contains a user or password"),
        ("https://eu1-good.upstash.io:https", "an invalid host or port"),
        ("https://eu1-good.upstash.io:99999", "an invalid host or port"),
        ("https://eu1-good.upstash.io:0", "an invalid character or port"),
        ("https://[eu1", "an invalid host or port"),
        ("https://eu1 good.upstash.io", "invalid character or port"),
        ("https://eu1-good.upstash.io\u00a0x", "invalid character or port"),
        ("https://eu1-good.upstash.io?_token=s3cret", "has a query or fragment"),
        ("https://eu1-good.upstash.io/#s3cret", "has a query or fragment"),
        ("http://eu1-good.upstash.io", "would send the token in clear"),
        ("http://localhost.upstash.io", "would send the token in clear"),
    ],
)
def test_a_url_that_cannot_be_used_is_explained_without_its_secrets(
    url: str, complaint: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(GOOD | {"UPSTASH_REDIS_REST_URL": url})
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("UPSTASH_REDIS_REST_URL ")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8079", "http://localhost:8079", "http://[::1]:8079"]
)
def test_plain_http_is_fine_on_loopback(url: str) -> None:
    assert check_url(url) == url


def test_plain_http_goes_elsewhere_only_when_allowed() -> None:
    environ = GOOD | {"UPSTASH_REDIS_REST_URL": "http://redis.internal:8079"}
    with pytest.raises(SettingsError, match="UPSTASH_STATE_ALLOW_HTTP=1"):
        Settings(environ)
    settings = Settings(environ | {"UPSTASH_STATE_ALLOW_HTTP": "1"})
    assert settings.url == "http://redis.internal:8079"


@pytest.mark.parametrize("token", ["s3cret token", "s3cret\ntoken", "s3cr\u00e9t", "s3cret\x7f"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_token(token, "UPSTASH_REDIS_REST_TOKEN")
    assert "UPSTASH_REDIS_REST_TOKEN contains characters" in str(caught.value)
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "URL is not set, UPSTASH_REDIS_REST_TOKEN is not set"),
        (
            {"UPSTASH_REDIS_REST_URL": "https://a"},
            "URL is set, UPSTASH_REDIS_REST_TOKEN is not set",
        ),
        (
            {"UPSTASH_REDIS_REST_TOKEN": "s3cret-token"},
            "URL is not set, UPSTASH_REDIS_REST_TOKEN is set",
        ),
        (
            GOOD | {"UPSTASH_REDIS_REST_TOKEN": "  "},
            "URL is set, UPSTASH_REDIS_REST_TOKEN is blank",
        ),
        (GOOD | {"UPSTASH_REDIS_REST_URL": '""'}, "URL is blank, UPSTASH_REDIS_REST_TOKEN is set"),
        ({"KV_REST_API_URL": "https://a"}, "KV_REST_API_URL is set, KV_REST_API_TOKEN is not set"),
        # Half of one pair and half of the other: the token is another database's.
        (
            {"UPSTASH_REDIS_REST_URL": "https://a.example", "KV_REST_API_TOKEN": "s3cret-token"},
            "UPSTASH_REDIS_REST_URL is set, UPSTASH_REDIS_REST_TOKEN is not set, "
            "KV_REST_API_URL is not set, KV_REST_API_TOKEN is set",
        ),
    ],
)
def test_what_is_missing_is_named(variables: dict[str, str], said: str) -> None:
    with pytest.raises(MissingCredentialsError, match=rf"{said}: copy it from .*console") as caught:
        Settings(variables)
    assert "s3cret" not in str(caught.value)


def test_vercels_names_stand_in() -> None:
    vercel = {"KV_REST_API_URL": "https://vercel.upstash.io", "KV_REST_API_TOKEN": "kv-token"}
    assert Settings(vercel).url == "https://vercel.upstash.io"
    assert Settings(vercel | GOOD).url == "https://eu1-good.upstash.io"


def test_defaults() -> None:
    settings = Settings(GOOD)
    assert (settings.timeout, settings.ttl, settings.prefix) == (5.0, 604_800, "order:")
    assert (settings.skip_unchanged, settings.allow_http) == (0.0, False)
    assert (settings.catch_up, settings.background, settings.restore_wait) == (True, 0.0, 0.0)
    assert settings.complaints == []


def test_values() -> None:
    settings = Settings(
        GOOD
        | {
            "UPSTASH_STATE_TIMEOUT": "2.5",
            "UPSTASH_STATE_TTL": "60",
            "UPSTASH_STATE_PREFIX": "shop:order:",
            "UPSTASH_STATE_SKIP_UNCHANGED": "30",
            "UPSTASH_STATE_CATCH_UP": "0",
            "UPSTASH_STATE_BACKGROUND": "0.5",
            "UPSTASH_STATE_RESTORE_WAIT": "60",
        }
    )
    assert (settings.timeout, settings.ttl, settings.prefix) == (2.5, 60, "shop:order:")
    assert settings.skip_unchanged == 30
    assert (settings.catch_up, settings.background, settings.restore_wait) == (False, 0.5, 60.0)
    assert settings.complaints == []


@pytest.mark.parametrize(
    ("name", "value", "default"),
    [
        ("UPSTASH_STATE_TIMEOUT", "5s", 5.0),
        ("UPSTASH_STATE_TIMEOUT", "0", 5.0),
        ("UPSTASH_STATE_TIMEOUT", "-1", 5.0),
        ("UPSTASH_STATE_TIMEOUT", "nan", 5.0),
        ("UPSTASH_STATE_TIMEOUT", "inf", 5.0),
        ("UPSTASH_STATE_TIMEOUT", "1e10", 5.0),
        ("UPSTASH_STATE_TTL", "1.5", 604_800),
        ("UPSTASH_STATE_TTL", "0", 604_800),
        ("UPSTASH_STATE_TTL", "-60", 604_800),
        ("UPSTASH_STATE_TTL", "7d", 604_800),
        ("UPSTASH_STATE_TTL", "99999999999", 604_800),
        ("UPSTASH_STATE_PREFIX", "\ud83d:", "order:"),
        ("UPSTASH_STATE_SKIP_UNCHANGED", "yes", 0.0),
        ("UPSTASH_STATE_SKIP_UNCHANGED", "-5", 0.0),
        ("UPSTASH_STATE_ALLOW_HTTP", "true", False),
        ("UPSTASH_STATE_CATCH_UP", "no", True),
        ("UPSTASH_STATE_BACKGROUND", "-1", 0.0),
        ("UPSTASH_STATE_RESTORE_WAIT", "1min", 0.0),
    ],
)
def test_a_bad_value_gets_one_complaint_and_the_default(
    name: str, value: str, default: object
) -> None:
    settings = Settings(GOOD | {name: value})
    assert getattr(settings, name.removeprefix("UPSTASH_STATE_").lower()) == default
    (complaint,) = settings.complaints
    assert complaint.startswith(f"{name} is not ")
    assert complaint.endswith(f"{default!r} is used instead")


@pytest.mark.parametrize(
    ("ttl", "skip", "used"), [("60", "31", 30.0), ("61", "1000", 30.5), ("", "302401", 302_400.0)]
)
def test_unchanged_orders_are_sent_again_before_half_of_their_time_is_over(
    ttl: str, skip: str, used: float
) -> None:
    settings = Settings(GOOD | {"UPSTASH_STATE_TTL": ttl, "UPSTASH_STATE_SKIP_UNCHANGED": skip})
    assert settings.skip_unchanged == used
    (complaint,) = settings.complaints
    assert complaint.startswith("UPSTASH_STATE_SKIP_UNCHANGED is more than half of ")
    assert complaint.endswith(f" - {used!r} is used instead")


def test_every_option_is_an_attribute() -> None:
    settings = Settings(GOOD)
    for name, (default, _) in OPTIONS.items():
        value = getattr(settings, name.removeprefix("UPSTASH_STATE_").lower())
        assert value == default
        assert type(value) is type(default)
    assert type(Settings(GOOD | {"UPSTASH_STATE_PREFIX": "o:"}).prefix) is str


@pytest.mark.parametrize("variable", GOOD)
@pytest.mark.parametrize(
    "pasted",
    ["{name}={value}", 'export {name}="{value}"', "${{{name}}}", '"{name}": "{value}"'],
)
def test_a_value_with_a_variables_own_name_is_recognised(variable: str, pasted: str) -> None:
    value = pasted.format(name=variable, value=GOOD[variable])
    with pytest.raises(SettingsError) as caught:
        Settings(GOOD | {variable: value})
    assert (
        str(caught.value) == f"{variable} contains the name {variable}: set it to the value alone"
    )


@pytest.mark.parametrize(
    "pasted", ["Bearer s3cret-token", "'bearer s3cret-token'", "Authorization: Bearer s3cret-token"]
)
def test_a_token_with_its_header_is_recognised(pasted: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(GOOD | {"UPSTASH_REDIS_REST_TOKEN": pasted})
    expected = 'UPSTASH_REDIS_REST_TOKEN contains "Bearer ": set it to the token alone'
    assert str(caught.value) == expected


def test_no_repr_shows_the_token() -> None:
    settings = Settings(GOOD)
    assert "s3cret" not in repr(settings)
    headers = {"Authorization": settings.token}
    assert "s3cret" not in repr(headers)
    # As reprlib and rich cut long texts.
    assert "s3cret" not in f"{settings.token[:8]!r} {settings.token[0:100:1]!r}"
    assert settings.token[0:6] == "s3cret"
    assert repr(settings.token[0]) == "'***'"


@pytest.mark.parametrize(
    "bad",
    [
        {"UPSTASH_REDIS_REST_URL": "https://eu1 good.upstash.io"},
        {"UPSTASH_REDIS_REST_TOKEN": "s3cret token"},
        {"UPSTASH_REDIS_REST_TOKEN": "Bearer s3cret"},
        {"UPSTASH_REDIS_REST_URL": ""},
    ],
)
@pytest.mark.parametrize(
    "make",
    [Settings, UpstashRedis.from_env, OrderStore.from_env],
    ids=lambda make: make.__qualname__,
)
def test_a_traceback_with_local_variables_does_not_show_the_token(
    make: Callable[[Mapping[str, str]], object], bad: dict[str, str]
) -> None:
    environ = Masked(GOOD | bad)
    with pytest.raises(SettingsError) as caught:
        make(environ)
    assert "s3cret" not in shown_with_locals(caught.value)


def test_a_client_with_a_bad_token_does_not_show_it_either() -> None:
    with pytest.raises(SettingsError) as caught:
        UpstashRedis(GOOD["UPSTASH_REDIS_REST_URL"], Secret("s3cret token"))
    assert "s3cret" not in shown_with_locals(caught.value)
    # Made only in part, it still has a repr.
    assert "UpstashRedis" in repr(UpstashRedis.__new__(UpstashRedis))


class Masked(dict[str, str]):
    """A caller's environment is the caller's to hide."""

    def __repr__(self) -> str:
        return "Masked"


def shown_with_locals(error: BaseException) -> str:
    """The traceback as loggers show it that add the local variables of each frame."""
    assert error.__traceback__ is not None
    frames = error.__traceback__.tb_next  # Without the test's own.
    return "".join(
        traceback.TracebackException(type(error), error, frames, capture_locals=True).format()
    )


@pytest.mark.parametrize(("url", "token"), [(None, "t"), ("https://a.example", None), (b"", "t")])
def test_credentials_that_are_not_text_are_refused_as_such(url: Any, token: Any) -> None:
    with pytest.raises(
        SettingsError, match=r"^(url|token) must be str, not (NoneType|bytes): copy"
    ):
        UpstashRedis(url, token)


@pytest.mark.parametrize(
    ("url", "variables", "proxy"),
    [
        ("https://eu1-good.upstash.io", {}, None),
        ("https://eu1-good.upstash.io", {"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://eu1-good.upstash.io", {"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ("https://eu1-good.upstash.io", {"ALL_PROXY": "socks5://proxy"}, "socks5://proxy"),
        ("https://eu1-good.upstash.io", {"HTTP_PROXY": "http://proxy:3128"}, None),
        ("http://redis.internal", {"HTTP_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        (
            "https://eu1-good.upstash.io",
            {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "upstash.io"},
            None,
        ),
        ("http://127.0.0.1:8079", {"HTTP_PROXY": "http://proxy:3128"}, None),
        ("http://localhost:8079", {"ALL_PROXY": "http://proxy:3128"}, None),
        ("http://[::1]:8079", {"ALL_PROXY": "http://proxy:3128"}, None),
    ],
)
def test_the_proxy_is_the_one_that_requests_would_take_but_none_for_loopback(
    environ: Environ, url: str, variables: dict[str, str], proxy: str | None
) -> None:
    environ.set(**variables)
    assert proxy_of(url) == proxy


@pytest.mark.parametrize(
    ("variables", "bundle"),
    [
        ({}, None),
        ({"SSL_CERT_FILE": "/s"}, ("SSL_CERT_FILE", "/s")),
        ({"CURL_CA_BUNDLE": "/c", "SSL_CERT_FILE": "/s"}, ("CURL_CA_BUNDLE", "/c")),
        ({"REQUESTS_CA_BUNDLE": "/r", "CURL_CA_BUNDLE": "/c"}, ("REQUESTS_CA_BUNDLE", "/r")),
        ({"REQUESTS_CA_BUNDLE": "", "SSL_CERT_FILE": "/s"}, ("SSL_CERT_FILE", "/s")),
    ],
)
def test_the_ca_bundle_is_that_of_requests_before_that_of_openssl(
    environ: Environ, variables: dict[str, str], bundle: tuple[str, str] | None
) -> None:
    environ.set(**variables)
    assert ca_bundle() == bundle


def test_the_example_has_every_setting_with_its_default() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    there = dict(re.findall(r"^#?(\w+)=(.*)$", text, re.M))
    assert list(there) == [*URL_AND_TOKEN[0], *OPTIONS]
    for name, (default, parse) in OPTIONS.items():
        assert parse(there[name]) == default


@pytest.mark.parametrize(
    ("name", "text", "limit"),
    [
        ("UPSTASH_STATE_TIMEOUT", "99999999", "31536000"),
        ("UPSTASH_STATE_TTL", "99999999999", "9999999999"),
        ("UPSTASH_STATE_SKIP_UNCHANGED", "99999999", "31536000"),
        ("UPSTASH_STATE_BACKGROUND", "-1", "0 (off)"),
        ("UPSTASH_STATE_RESTORE_WAIT", "99999999", "31536000"),
    ],
)
def test_a_number_out_of_range_is_told_the_range(name: str, text: str, limit: str) -> None:
    (complaint,) = Settings(GOOD | {name: text}).complaints
    assert limit in complaint.split(" - ")[0]
