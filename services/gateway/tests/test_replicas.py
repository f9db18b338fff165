"""Several gateways on one Redis, and what is left of them without it."""

import asyncio
from uuid import uuid4

import pytest

from memepool_common.testing.waiting import until
from memepool_common.web.app import Probes
from memepool_gateway.settings import Rate, RateSettings
from memepool_gateway.worker import run
from memepool_sandbox.redis_server import PrivateRedis
from services.gateway.tests.harness import Echo, StartGateway, upstream_of
from services.gateway.tests.test_stream_api import personal, public, stream
from services.gateway.tests.test_stream_writer import FakeBus, Running, counted


async def test_a_stream_goes_on_at_another_replica(
    start_gateway: StartGateway, redis_url: str
) -> None:
    async with (
        start_gateway(redis_url=redis_url) as one,
        start_gateway(redis_url=redis_url) as other,
    ):
        me = one.issuer.principal()
        own = {"Authorization": one.issuer.headers(me)["Authorization"]}
        async with stream(one, **own) as mine, stream(other) as everybodys:
            await mine.opened()
            await everybodys.opened()
            await one.stream.append([public(1), personal(2, me.user_id), public(3)])
            assert [(await mine.next()).data["number"] for _ in range(3)] == [1, 2, 3]
            assert [(await everybodys.next()).data["number"] for _ in range(2)] == [1, 3]
            last_id = everybodys.last_id
        await one.stream.append([public(4)])
        async with stream(one, Last_Event_ID=last_id) as resumed:
            assert (await resumed.next()).data["number"] == 4
            await one.stream.append([public(5)])
            assert (await resumed.next()).data["number"] == 5


async def test_the_worker_writes_what_replicas_tell(
    start_gateway: StartGateway, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memepool_gateway.stream.redis_store.LEASE_MS", 2_000)
    monkeypatch.setattr("memepool_gateway.stream.writer.IDLE_WAIT_S", 0.05)
    meme = uuid4()
    async with start_gateway(redis_url=redis_url) as gateway, stream(gateway) as reader:
        await reader.opened()
        settings = Running(redis_url=redis_url).settings
        first, second = FakeBus(), FakeBus()
        stops = [asyncio.Event(), asyncio.Event()]
        workers = [asyncio.create_task(run(settings, first, Probes(), stops[0]))]
        vote = counted((uuid4(), meme, 1), sequence=1, stakes=1)
        await first.publish([vote])
        await until(lambda: bool(first.acknowledged))
        assert (await reader.next()).data["pot"] == 1
        workers.append(asyncio.create_task(run(settings, second, Probes(), stops[1])))
        later = counted((uuid4(), meme, 1), sequence=2, stakes=2)
        await second.publish([vote, later])  # waits for its turn, and one comes again
        await asyncio.sleep(0.2)
        assert not second.acknowledged
        stops[0].set()
        await until(lambda: len(second.acknowledged) == 2)
        told = await reader.next()
        while told.data["pot"] == 1:  # from the vote that came again: its fold began anew
            told = await reader.next()
        assert told.data["pot"] == 2
        stops[1].set()
        await asyncio.gather(*workers)
        entries = await gateway.stream.read(
            (await gateway.stream.latest())._replace(sequence=0), size_max=100
        )
        assert [entry.name for entry in entries].count("vote.counted") == 2


async def test_a_redis_that_is_killed_and_started_again(
    start_gateway: StartGateway, private_redis: PrivateRedis
) -> None:
    private_redis.stop()  # empty it
    private_redis.start()
    rates = RateSettings(read=Rate(per_address=10_000, per_user=3))
    async with (
        upstream_of(Echo()) as url,
        start_gateway(url, redis_url=private_redis.url, rates=rates) as gateway,
        stream(gateway) as reader,
    ):
        await reader.opened()
        await gateway.stream.append([public(1)])
        assert (await reader.next()).data == {"number": 1}
        last_id = reader.last_id
        private_redis.stop()
        try:
            token = gateway.issuer.headers(gateway.issuer.principal())
            statuses = [
                (await gateway.client.get("/rounds", headers=token)).status_code for _ in range(4)
            ]
            assert statuses == [200, 200, 200, 429]  # counted by the process alone
            write = await gateway.client.post("/auth/challenge")
            assert write.status_code == 200
            assert not await gateway.probes.failures()
            async with stream(gateway, Last_Event_ID=last_id) as cut:
                await cut.ended()  # its client comes again
        finally:
            private_redis.start()
        told = await reader.next()
        assert told.name == "gap"
        await gateway.stream.append([public(2)])
        assert (await reader.next()).data == {"number": 2}
        async with stream(gateway, Last_Event_ID=last_id) as resumed:
            assert (await resumed.next()).name == "gap"


async def test_a_gateway_that_starts_without_redis(
    start_gateway: StartGateway, private_redis: PrivateRedis
) -> None:
    private_redis.stop()
    try:
        async with (
            upstream_of(Echo()) as url,
            start_gateway(url, redis_url=private_redis.url) as gateway,
        ):
            assert (await gateway.client.get("/rounds")).status_code == 200
            refused = await gateway.client.get("/events")
            assert (refused.status_code, refused.json()["code"]) == (503, "stream_unavailable")
            assert refused.headers["retry-after"] == "5"
            private_redis.start()

            async def open_again() -> bool:
                async with gateway.client.stream("GET", "/events") as answer:
                    return answer.status_code == 200

            await until(open_again)
    finally:
        private_redis.stop()
        private_redis.start()


async def test_the_worker_needs_redis() -> None:
    with pytest.raises(SystemExit, match="MEMEPOOL_GATEWAY_REDIS__URL"):
        await run(Running().settings, FakeBus(), Probes(), asyncio.Event())
