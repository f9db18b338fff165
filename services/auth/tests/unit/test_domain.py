"""The rules by themselves."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memepool_auth.domain.backoff import WAIT_S_MAX, wait_s
from memepool_auth.domain.challenge import CHAIN_IDS, MESSAGE_BYTES_MAX, new_challenge
from memepool_auth.domain.client import (
    address_key,
    address_prefix,
    device_name,
    forwarded_address,
)
from memepool_auth.domain.errors import (
    RefreshTokenReusedError,
    RoleNotSelfAssignableError,
    SessionEndedError,
    SessionExpiredError,
)
from memepool_auth.domain.session import (
    GREATEST_AGE,
    IDLE_LIFETIME,
    REFRESH_GRACE,
    Session,
    expiry,
    refusal_to_refresh,
)
from memepool_auth.domain.user import Role, is_demotion, require_self_assignable
from memepool_auth.settings import Settings, SignInSettings
from memepool_chain.header import parse_header
from memepool_chain.network import MAIN, REGTEST, TEST

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)
ID = UUID(int=7)


def challenge(domain: str = "memepool.test", statement: str = "Hello.") -> str:
    return new_challenge(
        domain=domain,
        statement=statement,
        network="main",
        wallet_address="1" * 34,
        nonce="n" * 32,
        request_id=ID,
        now=NOW,
    ).message


def test_the_text_to_the_byte() -> None:
    assert challenge() == (
        "memepool.test wants you to sign in with your BSV account:\n"
        f"{'1' * 34}\n"
        "\n"
        "Hello.\n"
        "\n"
        "URI: https://memepool.test/login\n"
        "Version: 1\n"
        "Chain ID: bip122:000000000000000001d956714215d96f\n"
        f"Nonce: {'n' * 32}\n"
        "Issued At: 2026-01-02T03:04:05Z\n"
        "Expiration Time: 2026-01-02T03:09:05Z\n"
        f"Request ID: {ID}"
    )


def test_the_longest_settings_fit_and_other_text_is_refused() -> None:
    longest = SignInSettings(domain="d" * 100 + ":65535", statement="s" * 200)
    assert len(challenge(longest.domain, longest.statement)) <= MESSAGE_BYTES_MAX
    for statement in ("\u00e4", "s" * MESSAGE_BYTES_MAX):
        with pytest.raises(ValueError, match="ASCII"):
            challenge(statement=statement)
    with pytest.raises(ValueError, match="domain"):
        SignInSettings(domain="evil.example/\nURI: x")


def test_a_malformed_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for secret in ("not-base64-but-secret", "c2VjcmV0LWJ1dC1zaG9ydA=="):
        monkeypatch.setenv("MEMEPOOL_AUTH_KEYS__ENCRYPTION_KEY", secret)
        with pytest.raises(ValueError, match="must be base64 of 32 bytes") as refused:
            Settings()
        assert secret not in str(refused.value)


def test_chain_ids_name_the_networks_by_their_first_blocks() -> None:
    for network in (TEST, REGTEST):
        genesis = parse_header(network.genesis_header).hash
        assert CHAIN_IDS[network.name] == f"bip122:{genesis[:32]}"
    assert parse_header(MAIN.genesis_header).hash[:32] not in CHAIN_IDS["main"]


@given(st.ip_addresses(v=4), st.ip_addresses(v=6))
def test_a_prefix_covers_its_address_and_hides_the_rest(four: object, six: object) -> None:
    assert address_prefix(str(four)) == ".".join([*str(four).split(".")[:3], "0/24"])
    prefix = address_prefix(str(six))
    assert prefix is not None
    assert prefix.endswith(("/64", "/24"))


def test_mapped_scoped_and_broken_addresses() -> None:
    assert address_prefix("::ffff:203.0.113.9") == "203.0.113.0/24"
    assert address_prefix("fe80::1%eth0") == "fe80::/64"
    for text in (None, "", "unknown", "1.2.3", "1.2.3.4:80", "x" * 100):
        assert address_prefix(text) is None


def test_limits_count_an_ipv4_address_or_an_ipv6_network() -> None:
    secret = bytes(32)
    one = address_key("203.0.113.9", secret)
    assert one == address_key("::ffff:203.0.113.9", secret)
    assert one != address_key("203.0.113.10", secret)
    assert one != address_key("203.0.113.9", bytes([1]) * 32)
    assert len(one) == 32
    assert address_key("2001:db8::1", secret) == address_key("2001:db8::ffff:2", secret)
    assert address_key("2001:db8::1", secret) != address_key("2001:db8:0:1::1", secret)
    assert address_key(None, secret) == address_key("unknown", secret)


@pytest.mark.parametrize(
    ("header", "hops", "address"),
    [
        ("", 1, "peer"),
        ("a, b", 0, "peer"),
        ("forged, real", 1, "real"),
        ("forged, real, balancer", 2, "real"),
        ("real", 3, "real"),
    ],
)
def test_only_our_own_proxies_are_believed(header: str, hops: int, address: str) -> None:
    assert forwarded_address("peer", header, hops) == address


def test_a_device_name_is_cut_and_printable() -> None:
    assert device_name("Fire\x00fox\r\n") == "Firefox"
    assert len(device_name("x" * 1_000) or "") == 200
    assert device_name("\x01") is None
    assert device_name(None) is None


def session(ended_at: datetime | None = None, expires_at: datetime | None = None) -> Session:
    later = NOW + timedelta(days=1)
    return Session(ID, ID, None, None, NOW, NOW, expires_at or later, ended_at)


def test_what_a_refresh_token_is_worth() -> None:
    def refusal(current: Session, used_at: datetime | None, *, newest_unused: bool) -> object:
        return refusal_to_refresh(current, used_at, precedes_newest=newest_unused, now=NOW)

    just_now, before = NOW - REFRESH_GRACE, NOW - REFRESH_GRACE - timedelta(microseconds=1)
    assert refusal(session(), None, newest_unused=False) is None
    assert refusal(session(), just_now, newest_unused=True) is None
    for current, used_at, newest_unused, kind in (
        (session(), before, True, RefreshTokenReusedError),
        (session(), NOW, False, RefreshTokenReusedError),
        (session(expires_at=NOW), before, True, RefreshTokenReusedError),
        (session(expires_at=NOW), NOW, True, SessionExpiredError),
        (session(ended_at=NOW), None, False, SessionEndedError),
        (session(ended_at=NOW), NOW, True, SessionEndedError),
        (session(expires_at=NOW), None, False, SessionExpiredError),
    ):
        assert isinstance(refusal(current, used_at, newest_unused=newest_unused), kind)


def test_back_off_escalates_up_to_a_limit() -> None:
    waits = [wait_s(failures, 3) for failures in range(1, 20)]
    assert waits[:8] == [0, 0, 0, 2, 4, 8, 16, 32]
    assert waits == sorted(waits)
    assert max(waits) == wait_s(10**9, 3) == WAIT_S_MAX


def test_a_session_in_use_still_ends_one_day() -> None:
    assert expiry(NOW, NOW) == NOW + IDLE_LIFETIME
    assert expiry(NOW, NOW + GREATEST_AGE) == NOW + GREATEST_AGE


def test_who_may_take_which_role() -> None:
    roles: tuple[Role, ...] = ("viewer", "creator", "admin")
    for before in roles:
        for after in roles:
            if (before, after) == ("viewer", "creator") or before == after:
                require_self_assignable(before, after)
            else:
                with pytest.raises(RoleNotSelfAssignableError):
                    require_self_assignable(before, after)
            assert is_demotion(before, after) == (roles.index(after) < roles.index(before))
