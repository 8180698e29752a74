"""What people paste into the environment, and what they are told."""

from __future__ import annotations

import pytest

from upstash_state.errors import MissingCredentialsError, SettingsError
from upstash_state.settings import Settings, check_token, check_url

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
        ("eu1-good.upstash.io", "no URL that begins with https://"),
        ("ftp://eu1-good.upstash.io", "no URL that begins with https://"),
        ("https://", "no URL that begins with https://"),
        ("rediss://default:s3cret@eu1-good.upstash.io:6379", "Redis over TCP (rediss://...)"),
        ("redis://eu1-good.upstash.io:6379", "Redis over TCP (redis://...)"),
        ("https://default:s3cret@eu1-good.upstash.io", "holds a user or password"),
        ("https://s3cret@eu1-good.upstash.io", "holds a user or password"),
        ("https://eu1-good.upstash.io:https", "host or port that is none"),
        ("https://eu1-good.upstash.io:99999", "host or port that is none"),
        ("https://eu1-good.upstash.io:0", "character or port that no URL can have"),
        ("https://[eu1", "host or port that is none"),
        ("https://eu1 good.upstash.io", "character or port"),
        ("https://eu1-good.upstash.io\u00a0x", "character or port"),
        ("https://eu1-good.upstash.io?_token=s3cret", "goes on after the address"),
        ("https://eu1-good.upstash.io/#s3cret", "goes on after the address"),
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
    assert "UPSTASH_REDIS_REST_TOKEN holds characters" in str(caught.value)
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"UPSTASH_REDIS_REST_URL": GOOD["UPSTASH_REDIS_REST_URL"]},
        {"UPSTASH_REDIS_REST_TOKEN": "s3cret-token"},
        GOOD | {"UPSTASH_REDIS_REST_TOKEN": "  "},
        GOOD | {"UPSTASH_REDIS_REST_URL": '""'},
        # Half of one pair and half of the other: the token is another database's.
        {"UPSTASH_REDIS_REST_URL": "https://a.example", "KV_REST_API_TOKEN": "s3cret-token"},
    ],
)
def test_missing_or_blank_credentials_are_missing(environ: dict[str, str]) -> None:
    with pytest.raises(MissingCredentialsError, match="console"):
        Settings(environ)


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


def test_no_repr_shows_the_token() -> None:
    settings = Settings(GOOD)
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in repr({"Authorization": settings.token})
