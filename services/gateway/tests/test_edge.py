"""The token check at the edge, and pages of other origins."""

import asyncio

import httpx
import pytest

from memepool_common.testing.waiting import until
from memepool_gateway.settings import EdgeSettings
from services.gateway.tests.harness import Echo, StartGateway, upstream_of

ORIGIN = "https://memepool.example"


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_a_valid_token_passes_and_none_passes_too(start_gateway: StartGateway) -> None:
    echo = Echo()
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        headers = gateway.issuer.headers(gateway.issuer.principal())
        own = await gateway.client.get("/payments/balance", headers=headers)
        anonymous = await gateway.client.get("/rounds/current")
    assert (own.status_code, anonymous.status_code) == (200, 200)
    assert echo.seen[0].header("authorization") == headers["Authorization"]
    assert echo.seen[1].header("authorization") is None


@pytest.mark.parametrize(
    "authorization", ["Bearer x", "Bearer", "Basic eDp5", "x", "", "Bearer a.b.c"]
)
async def test_a_bad_token_ends_here(start_gateway: StartGateway, authorization: str) -> None:
    echo = Echo()
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        answer = await gateway.client.get("/rounds", headers={"Authorization": authorization})
    assert code(answer) == (401, "token_invalid")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not echo.seen


async def test_two_authorization_headers_are_refused(start_gateway: StartGateway) -> None:
    async with upstream_of(Echo()) as url, start_gateway(url) as gateway:
        token = gateway.issuer.headers(gateway.issuer.principal())["Authorization"]
        twice = [("Authorization", token), ("Authorization", token)]
        assert code(await gateway.client.get("/rounds", headers=twice)) == (401, "token_invalid")


async def test_an_ended_session_ends_here(start_gateway: StartGateway) -> None:
    async with upstream_of(Echo()) as url, start_gateway(url) as gateway:
        principal = gateway.issuer.principal()
        headers = gateway.issuer.headers(principal)
        assert (await gateway.client.get("/auth/me", headers=headers)).status_code == 200
        gateway.issuer.end(principal.session_id)

        async def refused() -> bool:
            answer = await gateway.client.get("/auth/me", headers=headers)
            return answer.status_code == 401 and answer.json()["code"] == "session_ended"

        await until(refused)


@pytest.mark.parametrize(
    "path", ["/auth/session", "/auth/challenge", "/auth/verify", "/payments/arc/callback"]
)
async def test_where_the_service_alone_can_judge_the_header(
    start_gateway: StartGateway, path: str
) -> None:
    echo = Echo()
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        answer = await gateway.client.post(path, headers={"Authorization": "Bearer of-another"})
    assert answer.status_code == 200
    assert echo.seen[0].header("authorization") == "Bearer of-another"


async def test_when_auth_is_silent_writes_are_refused_and_reads_go_on(
    start_gateway: StartGateway,
) -> None:
    async with (
        upstream_of(Echo()) as url,
        start_gateway(url, auth_poll_s=60.0, stale_after_s=0.2) as gateway,
    ):
        headers = gateway.issuer.headers(gateway.issuer.principal())

        async def refused() -> bool:
            answer = await gateway.client.post("/rounds/1/vote", headers=headers)
            return answer.status_code == 503 and answer.json()["code"] == "auth_unavailable"

        await until(refused)
        assert (await gateway.client.get("/rounds", headers=headers)).status_code == 200
        assert (await gateway.client.get("/rounds")).status_code == 200


async def test_pages_of_configured_origins_may_call(start_gateway: StartGateway) -> None:
    echo = Echo()
    edge = EdgeSettings(origins=(ORIGIN,))
    preflight = {"Access-Control-Request-Method": "POST"}
    async with upstream_of(echo) as url, start_gateway(url, edge=edge) as gateway:
        client = gateway.client
        asked = await client.options("/rounds/1/vote", headers=preflight | {"Origin": ORIGIN})
        other = await client.options("/rounds", headers=preflight | {"Origin": "https://evil"})
        answer = await client.get("/rounds", headers={"Origin": ORIGIN})
        foreign = await client.get("/rounds", headers={"Origin": ORIGIN + ".evil"})
        missing = await client.get("/nothing", headers={"Origin": ORIGIN})
        plain = await client.options("/rounds")
    assert (asked.status_code, asked.content) == (204, b"")
    assert asked.headers["access-control-allow-origin"] == ORIGIN
    assert "Idempotency-Key" in asked.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in other.headers
    assert code(other) == (403, "origin_not_allowed")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in foreign.headers
    assert foreign.headers["vary"] == "Origin"
    assert missing.headers["access-control-allow-origin"] == ORIGIN
    assert plain.status_code == 200
    assert [seen.method for seen in echo.seen] == ["GET", "GET", "OPTIONS"]


async def test_without_configured_origins_nothing_is_allowed(start_gateway: StartGateway) -> None:
    async with upstream_of(Echo()) as url, start_gateway(url) as gateway:
        answer = await gateway.client.get("/rounds", headers={"Origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers


async def test_many_at_once(start_gateway: StartGateway) -> None:
    echo = Echo()
    async with upstream_of(echo) as url, start_gateway(url) as gateway:
        calls = (gateway.client.get(f"/rounds/{number}") for number in range(200))
        answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["x-request-id"] for answer in answers}) == 200
