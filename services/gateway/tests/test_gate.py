"""Rate limits as clients meet them."""

from uuid import uuid4

import httpx
import pytest

from memepool_gateway.limits import Gate, MemoryCounter
from memepool_gateway.proxy.headers import network_of
from memepool_gateway.settings import EdgeSettings, Rate, RateSettings
from services.gateway.tests.harness import Echo, Gateway, StartGateway, upstream_of

TIGHT = RateSettings(
    window_s=3_600,
    read=Rate(per_address=5, per_user=3),
    write=Rate(per_address=4, per_user=2),
    sign_in=Rate(per_address=2),
    upload=Rate(per_address=2, per_user=1),
)
BEHIND_ONE = EdgeSettings(trusted_hops=1)


def from_address(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def statuses(
    gateway: Gateway, method: str, path: str, count: int, **headers: str
) -> list[int]:
    renamed = {name.replace("_", "-"): value for name, value in headers.items()}
    answers = [await gateway.client.request(method, path, headers=renamed) for _ in range(count)]
    return [answer.status_code for answer in answers]


def wait_s(answer: httpx.Response) -> int:
    body = answer.json()
    assert (answer.status_code, body["code"]) == (429, "rate_limited")
    assert answer.headers["retry-after"] in body["detail"]
    return int(answer.headers["retry-after"])


async def test_answers_tell_the_limits(start_gateway: StartGateway) -> None:
    echo = Echo()
    async with upstream_of(echo) as url, start_gateway(url, rates=TIGHT) as gateway:
        token = gateway.issuer.headers(gateway.issuer.principal())
        anonymous = await gateway.client.get("/rounds")
        own = await gateway.client.get("/rounds", headers=token)
        echo.status = 404
        missing = await gateway.client.get("/rounds/9", headers=token)
    assert anonymous.headers["ratelimit-policy"] == '"read-address";q=5;w=3600'
    assert anonymous.headers["ratelimit"].startswith('"read-address";r=4;t=')
    assert own.headers["ratelimit-policy"] == ('"read-address";q=5;w=3600, "read-user";q=3;w=3600')
    address, user = own.headers["ratelimit"].split(", ")
    assert address.startswith('"read-address";r=3;t=')
    assert user.startswith('"read-user";r=2;t=')
    assert '"read-user";r=1;' in missing.headers["ratelimit"]


async def test_a_stream_that_is_refused_is_counted_all_the_same(
    start_gateway: StartGateway,
) -> None:
    async with start_gateway(rates=TIGHT) as gateway:
        found = await statuses(gateway, "GET", "/events", 3, Authorization="Bearer x")
        found += await statuses(gateway, "GET", "/events?topics=x", 3)
    assert found == [401] * 3 + [422] * 2 + [429]


async def test_an_address_over_its_limit(start_gateway: StartGateway) -> None:
    echo = Echo()
    async with upstream_of(echo) as url, start_gateway(url, rates=TIGHT) as gateway:
        assert await statuses(gateway, "GET", "/rounds", 5) == [200] * 5
        refused = await gateway.client.get("/v1/content")
        assert 1 <= wait_s(refused) <= 7_200
        assert '"read-address";r=0;t=' in refused.headers["ratelimit"]
        assert refused.headers["ratelimit-policy"] == '"read-address";q=5;w=3600'
        stream = await gateway.client.get("/events")
        assert stream.status_code == 429
        assert await statuses(gateway, "POST", "/rounds/1/vote", 5) == [200] * 4 + [429]
        assert (await gateway.client.get("/openapi.json")).status_code == 200
    assert len(echo.seen) == 9


async def test_a_user_over_the_limit_at_any_address(start_gateway: StartGateway) -> None:
    async with (
        upstream_of(Echo()) as url,
        start_gateway(url, rates=TIGHT, edge=BEHIND_ONE) as gateway,
    ):
        token = gateway.issuer.headers(gateway.issuer.principal())
        other = gateway.issuer.headers(gateway.issuer.principal())
        for number in range(3):
            headers = token | from_address(f"192.0.2.{number}")
            assert (await gateway.client.get("/rounds", headers=headers)).status_code == 200
        elsewhere = from_address("192.0.2.9")
        refused = await gateway.client.get("/rounds", headers=token | elsewhere)
        wait_s(refused)
        assert "by you" in refused.json()["detail"]
        assert (await gateway.client.get("/rounds", headers=other | elsewhere)).status_code == 200


async def test_kinds_are_counted_apart(start_gateway: StartGateway) -> None:
    async with upstream_of(Echo()) as url, start_gateway(url, rates=TIGHT) as gateway:
        assert await statuses(gateway, "POST", "/auth/challenge", 1) == [200]
        assert await statuses(gateway, "POST", "/auth/session", 2) == [200, 429]
        assert await statuses(gateway, "POST", "/content/upload", 3) == [200, 200, 429]
        assert await statuses(gateway, "PUT", "/content/1", 1) == [200]
        assert await statuses(gateway, "GET", "/rounds", 1) == [200]


async def test_a_path_written_otherwise_is_the_same_path(start_gateway: StartGateway) -> None:
    echo = Echo()
    async with upstream_of(echo) as url, start_gateway(url, rates=TIGHT) as gateway:
        assert await statuses(gateway, "POST", "/auth/session", 2) == [200, 200]
        for path in (
            "/auth/%73ession",
            "/auth/ver%69fy",
            "/%61uth/%63hallenge",
            "/%761/auth/verify",
        ):
            assert await statuses(gateway, "POST", path, 1) == [429], path
        assert await statuses(gateway, "POST", "/content/uplo%61d", 3) == [200, 200, 429]
        assert await statuses(gateway, "GET", "/content/a%2Db%5f%7E%C3%A9%20", 1) == [200]
    targets = ["/auth/session"] * 2 + ["/content/upload"] * 2 + ["/content/a-b_~%C3%A9%20"]
    assert [seen.target for seen in echo.seen] == targets


async def test_bad_tokens_count_for_their_address(start_gateway: StartGateway) -> None:
    async with upstream_of(Echo()) as url, start_gateway(url, rates=TIGHT) as gateway:
        guesses = await statuses(gateway, "GET", "/auth/me", 6, Authorization="Bearer x")
        assert guesses == [401] * 5 + [429]


async def test_the_rightmost_untrusted_address_counts(start_gateway: StartGateway) -> None:
    async with (
        upstream_of(Echo()) as url,
        start_gateway(url, rates=TIGHT, edge=BEHIND_ONE) as gateway,
    ):
        for number in range(5):
            spoofed = from_address(f"198.51.100.{number}, 192.0.2.1")
            assert (await gateway.client.get("/rounds", headers=spoofed)).status_code == 200
        for said, status in (
            ("203.0.113.1, 192.0.2.1", 429),
            ("192.0.2.1, 203.0.113.1", 200),
            ("::ffff:192.0.2.1", 429),
        ):
            answer = await gateway.client.get("/rounds", headers=from_address(said))
            assert answer.status_code == status, said


async def test_what_a_client_says_of_its_way_counts_for_nothing(
    start_gateway: StartGateway,
) -> None:
    async with upstream_of(Echo()) as url, start_gateway(url, rates=TIGHT) as gateway:
        answers = [
            await gateway.client.get("/rounds", headers=from_address(f"192.0.2.{number}"))
            for number in range(6)
        ]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("testclient", "testclient"),
    ],
)
def test_what_counts_as_one_address(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_the_longer_wait_is_told() -> None:
    rates = RateSettings(window_s=60, write=Rate(per_address=1, per_user=1))
    gate = Gate(rates, MemoryCounter(lambda: 60_000_000))
    me = uuid4()
    await gate.enter("write", "192.0.2.1", None)
    headers = await gate.enter("write", "192.0.2.2", me)
    assert headers["RateLimit"] == '"write-address";r=0;t=60, "write-user";r=0;t=60'
