"""`GET /events` over real sockets."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from memepool_common.testing.waiting import until
from memepool_gateway.settings import StreamSettings
from memepool_gateway.stream.hub import CLIENTS
from memepool_gateway.stream.store import Draft
from services.gateway.tests.harness import Gateway, StartGateway


@dataclass
class Told:
    """One server-sent event."""

    id: str
    name: str
    data: Any


class Reader:
    """Reads a stream event by event."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()
        self.last_id = ""

    async def next(self, timeout_s: float = 60.0) -> Told:
        fields: dict[str, str] = {}
        async with asyncio.timeout(timeout_s):
            async for line in self._lines:
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.strip()
                    continue
                self.last_id = fields.get("id", self.last_id)
                if "data" in fields:
                    return Told(self.last_id, fields["event"], json.loads(fields["data"]))
                fields = {}
        raise EOFError

    async def opened(self) -> str:
        """Wait for the first id."""
        async with asyncio.timeout(60):
            async for line in self._lines:
                if line.startswith("id:"):
                    self.last_id = line.removeprefix("id:").strip()
                    return self.last_id
        raise EOFError

    async def ended(self) -> None:
        async with asyncio.timeout(60):
            async for _ in self._lines:
                pass


@contextlib.asynccontextmanager
async def stream(gateway: Gateway, query: str = "", **headers: str) -> AsyncIterator[Reader]:
    renamed = {name.replace("_", "-"): value for name, value in headers.items()}
    async with gateway.client.stream("GET", f"/v1/events{query}", headers=renamed) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield Reader(answer)


def public(number: int) -> Draft:
    return Draft("round.opened", None, b'{"number":%d}' % number)


def personal(number: int, *users: UUID) -> Draft:
    return Draft("vote.counted", frozenset(users), b'{"number":%d}' % number)


async def test_everybody_sees_public_events_and_only_those(start_gateway: StartGateway) -> None:
    async with start_gateway() as gateway, stream(gateway) as reader:
        await reader.opened()
        await gateway.stream.append([personal(0, uuid4()), public(1), public(2)])
        first, second = await reader.next(), await reader.next()
    assert (first.name, first.data, second.data) == ("round.opened", {"number": 1}, {"number": 2})


async def test_a_token_adds_what_is_personal(start_gateway: StartGateway) -> None:
    async with start_gateway() as gateway:
        me, you = gateway.issuer.principal(), gateway.issuer.principal()
        token = gateway.issuer.headers(me)["Authorization"]
        async with (
            stream(gateway, Authorization=token) as both,
            stream(gateway, "?topics=personal", Authorization=token) as own,
            stream(gateway, "?topics=public", Authorization=token) as rest,
        ):
            for reader in (both, own, rest):
                await reader.opened()
            await gateway.stream.append(
                [
                    personal(1, you.user_id),
                    personal(2, me.user_id, you.user_id),
                    public(3),
                    personal(4, me.user_id),
                    public(5),
                ]
            )
            assert [(await both.next()).data["number"] for _ in range(4)] == [2, 3, 4, 5]
            assert [(await own.next()).data["number"] for _ in range(2)] == [2, 4]
            assert [(await rest.next()).data["number"] for _ in range(2)] == [3, 5]


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("?topics=personal", {}, 401, "token_required"),
        ("?topics=secret", {}, 422, "invalid_request"),
        ("?topics=", {}, 422, "invalid_request"),
        ("?topics=" + "public," * 20, {}, 422, "invalid_request"),
        ("", {"Last-Event-ID": "x"}, 422, "invalid_request"),
        ("", {"Last-Event-ID": "1-" + "9" * 40}, 422, "invalid_request"),
        ("", {"Authorization": "Bearer x"}, 401, "token_invalid"),
        ("", {"Authorization": "Basic x"}, 401, "token_invalid"),
    ],
)
async def test_bad_input_is_named(
    start_gateway: StartGateway, query: str, headers: dict[str, str], status: int, code: str
) -> None:
    async with start_gateway() as gateway:
        answer = await gateway.client.get(f"/events{query}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_client_goes_on_where_it_was(start_gateway: StartGateway) -> None:
    async with start_gateway() as gateway:
        await gateway.stream.append([public(0)])
        async with stream(gateway) as reader:
            await reader.opened()
            await gateway.stream.append([public(1)])
            seen = await reader.next()
        await gateway.stream.append([public(2), personal(3, uuid4()), *map(public, range(4, 1200))])
        async with stream(gateway, Last_Event_ID=seen.id) as reader:
            assert (await reader.next()).data == {"number": 2}
            for number in range(4, 1200):
                assert (await reader.next()).data == {"number": number}
            await gateway.stream.append([public(2000)])
            assert (await reader.next()).data == {"number": 2000}


async def test_a_gap_is_told_when_history_is_gone(start_gateway: StartGateway) -> None:
    settings = StreamSettings(history_entries_max=3)
    async with start_gateway(stream=settings) as gateway:
        async with stream(gateway) as reader:
            start = await reader.opened()
        await gateway.stream.append([public(number) for number in range(5)])
        epoch = start.partition("-")[0]
        end = await gateway.stream.latest()
        for lost in (start, "1-1", f"{epoch}-99"):
            async with stream(gateway, Last_Event_ID=lost) as reader:
                gap = await reader.next()
                assert (gap.name, gap.data) == ("gap", {"reason": "history_gone"})
                await gateway.stream.append([public(7)])
                assert (await reader.next()).data == {"number": 7}
        kept = str(end)  # three came after it, and three are kept
        async with stream(gateway, Last_Event_ID=kept) as reader:
            assert (await reader.next()).name == "round.opened"


async def test_quiet_streams_beat_and_move_the_id_on(start_gateway: StartGateway) -> None:
    settings = StreamSettings(heartbeat_s=0.05)
    async with start_gateway(stream=settings) as gateway, stream(gateway) as reader:
        start = await reader.opened()
        await gateway.stream.append([personal(1, uuid4())])

        async def moved() -> bool:
            return await reader.opened() != start

        await until(moved)
        assert reader.last_id == str(await gateway.stream.latest())


async def test_a_personal_stream_ends_with_its_session(start_gateway: StartGateway) -> None:
    async with start_gateway() as gateway:
        me = gateway.issuer.principal()
        token = gateway.issuer.headers(me)["Authorization"]
        async with stream(gateway, Authorization=token) as own, stream(gateway) as anonymous:
            await own.opened()
            await anonymous.opened()
            gateway.issuer.end(me.session_id)
            await own.ended()
            await gateway.stream.append([public(1)])
            assert (await anonymous.next()).data == {"number": 1}
        refused = await gateway.client.get("/events", headers={"Authorization": token})
        assert refused.json()["code"] == "session_ended"


async def test_a_personal_stream_ends_when_its_token_expires(start_gateway: StartGateway) -> None:
    async with start_gateway() as gateway:
        expires_at = datetime.now(UTC) + timedelta(seconds=0.1)  # and it is taken a while longer
        me = replace(gateway.issuer.principal(), expires_at=expires_at)
        async with stream(gateway, **gateway.issuer.headers(me)) as reader:
            await reader.ended()


async def test_streams_end_when_the_process_drains(start_gateway: StartGateway) -> None:
    async with start_gateway() as gateway, stream(gateway) as reader:
        await reader.opened()
        gateway.probes.draining = True
        await reader.ended()


async def test_the_number_of_streams_is_bounded(start_gateway: StartGateway) -> None:
    settings = StreamSettings(clients_max=2)
    async with start_gateway(stream=settings) as gateway:
        async with stream(gateway), stream(gateway):
            refused = await gateway.client.get("/events")
            assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
            assert refused.headers["retry-after"] == "5"

        async def free() -> bool:
            async with gateway.client.stream("GET", "/events") as answer:
                return answer.status_code == 200

        await until(free)


async def test_the_streams_of_one_address_are_bounded(start_gateway: StartGateway) -> None:
    settings = StreamSettings(clients_per_address_max=1)
    async with start_gateway(stream=settings) as gateway, stream(gateway):
        refused = await gateway.client.get("/events")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams_here")


async def test_a_slow_client_is_dropped_and_the_others_go_on(start_gateway: StartGateway) -> None:
    settings = StreamSettings(queue_entries_max=20)
    large = b'{"x":"' + b"x" * 50_000 + b'"}'
    async with start_gateway(stream=settings) as gateway, stream(gateway) as reader:
        await reader.opened()
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.connect(("127.0.0.1", gateway.port))
        slow.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")

        def clients() -> int:
            return int(CLIENTS._value.get())

        await until(lambda: clients() == 2)
        for _ in range(400):
            await gateway.stream.append([Draft("round.opened", None, large)])
            assert len((await reader.next()).data["x"]) == 50_000
            if clients() == 1:
                break
        slow.close()
        assert clients() == 1
        await gateway.stream.append([public(1)])
        assert (await reader.next()).data == {"number": 1}


async def test_only_get_opens_a_stream(start_gateway: StartGateway) -> None:
    async with start_gateway() as gateway:
        answer = await gateway.client.head("/events")
    assert answer.status_code == 405
