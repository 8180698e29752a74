"""What people paste into the environment, and what they are told."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import pprint
import re
import reprlib
import traceback
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from string import Template
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.util import parse_url

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
    check_option,
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
    assert Settings(GOOD | {"UPSTASH_REDIS_REST_TOKEN": pasted}).token == Secret("s3cret-token")


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
        ("https://eu1-good.upstash.io:0", "an invalid host or port"),
        ("https://eu1-good.upstash.io:", "an invalid host or port"),
        ("https://eu1-good.upstash.io:\u0664\u0664\u0663", "an invalid host or port"),
        ("https://[eu1", "an invalid host or port"),
        ("https://[::1", "an invalid host or port"),
        ("https://[::1]x", "an invalid host or port"),
        ("https://[:::1]", "an invalid host or port"),
        ("https://[fe80::1%25eth0]", "an invalid host or port"),
        ("https://[127.0.0.1]", "an invalid host or port"),
        # As from https://$NAME.upstash.io where NAME is empty.
        ("https://.upstash.io", "an invalid host or port"),
        ("https://eu1-good..upstash.io", "an invalid host or port"),
        ("https://*.upstash.io", "an invalid host or port"),
        ("https://exa%00mple.com", "an invalid host or port"),
        ("https://${NAME}.upstash.io", "an invalid host or port"),
        ("https://<name>.upstash.io", "an invalid host or port"),
        (f"https://{'a' * 64}.upstash.io", "an invalid host or port"),
        (f"https://{'a.' * 130}upstash.io", "an invalid host or port"),
        ("https://-eu1.upstash.io", "an invalid host or port"),
        ("https://b\u00fccher.example", "an invalid host or port"),
        ("https://\u212aelvin.example", "an invalid host or port"),
        ("https://eu1 good.upstash.io", "an invalid host or port"),
        ("https://eu1-good.upstash.io\u00a0x", "an invalid host or port"),
        ("https://eu1-good.upstash.io\n.example", "an invalid host or port"),
        ("https://eu1-good.upstash.io\\x", "an invalid host or port"),
        ("https://eu1-good.upstash.io/a b", "an invalid character in its path"),
        ("https://eu1-good.upstash.io/%zz", "an invalid character in its path"),
        ("https://eu1-good.upstash.io/{token}", "an invalid character in its path"),
        # The token, in two forms that Upstash gives out.
        ("AYNgASQgs3cretGY3OTk4NzQtN2Q1Yi00c0ffee==", "looks like a token, not like a URL"),
        ("AYNg_s3cret-GY3OTk4NzQtN2Q1Yi00c0ffee", "looks like a token, not like a URL"),
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


# Pieces that URLs are pasted together from; the last ones are of no URL that can be used.
PIECES = [
    *("a", "eu1-good", ".", "-", "_", ":", "/", "443", "65535", "%41", "@", "[::1]", "[", "]", "%"),
    *(
        "*",
        "..",
        "\u00fc",
        "\u3002",
        "\u212a",
        "xn--",
        "a" * 63,
        "a" * 64,
        "\x00",
        " ",
        "\\",
        "?",
        "#",
    ),
]


@given(
    st.text("ab1.-_:/[]", max_size=12)
    | st.lists(st.sampled_from(PIECES) | st.characters(max_codepoint=0x24F), max_size=8).map(
        "".join
    )
)
@example(".upstash.io")
@example("*.x")
@example("exa%00mple.com")
@example("a" * 64)
@example("[::1")
@example("a.")
@example("xn--.a")
def test_a_url_that_is_accepted_is_one_that_requests_and_the_platform_can_use(rest: str) -> None:
    try:
        url = check_url(f"https://{rest}")
    except SettingsError:
        return
    prepared = requests.Request("POST", url + "/pipeline").prepare()
    assert prepared.url is not None
    assert prepared.url.endswith("/pipeline")
    parts, used = urlsplit(url), parse_url(prepared.url)
    assert (parts.scheme, parts.hostname, parts.port) == (
        "https",
        str(used.host).strip("[]").lower(),
        used.port,
    )
    # As `socket.getaddrinfo` encodes it.
    assert str(used.host).encode("idna")


@pytest.mark.parametrize(
    "url",
    [
        "https://eu1-good.upstash.io:8443",
        "https://eu1-good.upstash.io/redis/v1",
        "https://eu1-good.upstash.io./a%20b",
        "https://10.1.2.3",
        "https://[2001:db8::1]:8443",
        "https://my_host",
        "HTTPS://EU1-good.upstash.io",
        f"https://{'a' * 63}.upstash.io",
    ],
)
def test_unusual_urls_that_requests_can_use_are_accepted(url: str) -> None:
    assert check_url(url) == url


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


def test_a_misspelt_setting_gets_a_complaint_that_names_the_right_one() -> None:
    names = ("UPSTASH_STATE_TIMOUT", "UPSTASH_STATE_TEST_REDIS_URL", "UPSTASH_TIMEOUT")
    settings = Settings(GOOD | dict.fromkeys(names, "3"))
    text = "UPSTASH_STATE_TIMOUT is not a setting - did you mean UPSTASH_STATE_TIMEOUT?"
    assert settings.complaints == [text]


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


class Unwritable:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class Prefix(str, Enum):
    SHOP = "shop:"


@pytest.mark.parametrize(
    ("name", "value", "checked"),
    [
        ("timeout", 5, 5.0),
        ("timeout", 0.001, 0.001),
        ("timeout", Decimal("2.5"), 2.5),
        ("ttl", 60, 60),
        ("prefix", "", ""),
        ("prefix", Prefix.SHOP, "shop:"),
        ("catch_up", False, False),
        ("catch_up", 1, True),
        ("background", 0, 0.0),
    ],
)
def test_an_argument_that_fits_is_returned_in_the_type_of_the_setting(
    name: str, value: Any, checked: Any
) -> None:
    assert check_option(name, value) == checked
    assert type(check_option(name, value)) is type(checked)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("timeout", 0, "2.5: 0"),
        ("timeout", float("nan"), "2.5: nan"),
        ("timeout", True, "2.5: bool"),
        ("timeout", "5", "2.5: str"),
        ("timeout", None, "2.5: NoneType"),
        ("ttl", 1.5, "604800: 1.5"),
        ("ttl", -60, "604800: -60"),
        ("ttl", 10**5000, "604800: int"),
        ("ttl", Unwritable(), "604800: Unwritable"),
        ("ttl", type("Odd\nERROR", (), {})(), r"604800: Odd\nERROR"),
        ("prefix", 5, "order:: int"),
        ("prefix", b"order:", "order:: bytes"),
        ("prefix", "\ud83d:", r"order:: \ud83d:"),
        ("catch_up", 2, "(no): 2"),
        ("catch_up", "1", "(no): str"),
        ("background", -1, "60: -1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_argument_that_does_not_fit_gets_one_clear_line(
    name: str, value: Any, said: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is not ") as caught:
        check_option(name, value)
    assert str(caught.value).endswith(f" {said}")
    assert str(caught.value).isprintable()


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


class Holder(NamedTuple):
    token: object


#: Everything that somebody might do with a token without a thought.
SHOWN: list[Callable[[Any], object]] = [
    repr,
    str,
    ascii,
    lambda token: f"{token}",
    lambda token: f"{token!s:>40}",
    lambda token: f"{token:>40}",
    lambda token: f"{token:.8}",
    "{:.8}".format,
    "{0!r:.8}".format,
    lambda token: "%s %r %.5s" % (token, token, token),  # noqa: UP031
    lambda token: Template("$token").substitute(token=token),
    lambda token: "".join([token]),
    lambda token: "Bearer " + token,
    lambda token: token + "",
    lambda token: token[:8],
    list,
    bytes,
    lambda token: token.encode(),
    lambda token: token.upper(),
    lambda token: token.translate({}),
    lambda token: vars(token),
    lambda token: [token, {"token": token}, (token,), {token}],
    Holder,
    pprint.pformat,
    reprlib.repr,
    lambda token: [getattr(token, name) for name in dir(token)],
    lambda token: [repr(value) for _, value in inspect.getmembers(token)],
    json.dumps,
    lambda token: json.dumps({"token": token}, default=str),
    lambda token: json.dumps({"token": token}, default=vars),
    *(lambda token, n=n: pickle.dumps(token, n) for n in range(pickle.HIGHEST_PROTOCOL + 1)),
    copy.copy,
    copy.deepcopy,
    lambda token: copy.deepcopy({"headers": [token]}),
]


@pytest.mark.parametrize("show", SHOWN)
@pytest.mark.parametrize("where", ["the token", "the settings", "the settings' attributes"])
def test_nothing_but_reveal_shows_the_token(show: Callable[[Any], object], where: str) -> None:
    settings = Settings(GOOD)
    held = {"the token": settings.token, "the settings": settings}.get(where, vars(settings))
    try:
        shown = repr(show(held))
    except (TypeError, AttributeError, ValueError, LookupError, pickle.PicklingError) as error:
        shown = shown_with_locals(error)
    assert "s3cret" not in shown
    assert settings.token.reveal() == "s3cret-token"


def test_a_token_can_be_compared_and_copied() -> None:
    token = Settings(GOOD).token
    assert token == Secret("s3cret-token") == Secret(token)
    assert len({token, Secret("s3cret-token"), Secret("another")}) == 2
    assert token != "s3cret-token"
    assert copy.deepcopy(Settings(GOOD)).token.reveal() == "s3cret-token"
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(Settings(GOOD))


@pytest.mark.parametrize(
    "bad",
    [
        {"UPSTASH_REDIS_REST_URL": "https://eu1 good.upstash.io"},
        {"UPSTASH_REDIS_REST_TOKEN": "s3cret token"},
        {"UPSTASH_REDIS_REST_TOKEN": "Bearer s3cret"},
        {"UPSTASH_REDIS_REST_TOKEN": "https://s3cret.upstash.io"},
        {"UPSTASH_REDIS_REST_URL": "s3cret-token-in-the-place-of-the-url"},
        {"UPSTASH_REDIS_REST_URL": "rediss://default:s3cret@eu1-good.upstash.io:6379"},
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


@pytest.mark.parametrize(
    ("url", "token", "complaint"),
    [
        (GOOD["UPSTASH_REDIS_REST_URL"], "s3cret token", "token contains characters"),
        (GOOD["UPSTASH_REDIS_REST_URL"], Secret("s3cret token"), "token contains characters"),
        (
            "s3cret-token-in-the-place-of-the-url",
            "s3cret",
            "url looks like a token, not like a URL",
        ),
        ("s3cret-token", "s3cret", "url is not a URL that begins with https://"),
        (
            GOOD["UPSTASH_REDIS_REST_URL"],
            "https://s3cret.upstash.io",
            "token is a URL, not a token",
        ),
    ],
)
def test_a_client_with_a_bad_url_or_token_shows_neither(
    url: str, token: str | Secret, complaint: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{complaint}") as caught:
        UpstashRedis(url, token)
    assert "s3cret" not in shown_with_locals(caught.value)


def test_a_client_that_was_made_only_in_part_still_has_a_repr() -> None:
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
