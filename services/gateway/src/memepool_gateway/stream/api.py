"""`GET /events`: server-sent events (the HTML standard, section 9.2)."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.types import Receive, Scope, Send

from memepool_common.tokens import Principal
from memepool_common.web.deps import TOKEN_OPTIONAL, OptionalCaller
from memepool_common.web.problem import FieldError, Problem
from memepool_gateway.limits import Gate
from memepool_gateway.limits.gate import Headers
from memepool_gateway.proxy.headers import client_address, network_of
from memepool_gateway.settings import Settings
from memepool_gateway.stream.hub import (
    BEAT,
    READ_SIZE_MAX,
    Client,
    Hub,
    beat_frame,
    frame_of,
    gap_frame,
)
from memepool_gateway.stream.store import HistoryGone, Position, StreamUnavailableError
from memepool_gateway.stream.translate import event_names

TOPICS = ("public", "personal")
RECONNECT_MS = 2_000
SendFrames = Callable[[bytes], Awaitable[None]]
LAST_WORDS_S = 1.0


_ABOUT = """\
Server-sent events. The topic `public` needs no token; `personal` is what concerns only you, needs a
bearer token, and ends with its session or at its expiry.

Send the last event's id as `Last-Event-ID` to go on where you were; when what you missed is not
kept any more, a `gap` comes first. An id without data only moves on where you are. Ignore events
that you do not know.

"""


def _description() -> str:
    events = []
    for name, model in event_names():
        fields = ", ".join(field.alias or key for key, field in model.model_fields.items())
        events.append(f"- `{name}` {{{fields}}}: {' '.join((model.__doc__ or '').split())}")
    return _ABOUT + "\n".join(events)


def stream_router(settings: Settings) -> APIRouter:
    """The route; `app.state.hub` feeds it."""
    router = APIRouter(tags=["gateway"])

    async def counted(request: Request) -> Headers:
        """Count the call as the proxy does: one with a bad token counts for its address."""
        principal: Principal | None = None
        with contextlib.suppress(Problem):  # which is the caller's to be told, below
            authorization = request.headers.getlist("authorization")
            principal = request.app.state.tokens.admit(request.method, authorization)
        network = network_of(client_address(request.scope, settings.edge.trusted_hops))
        gate: Gate = request.app.state.gate
        return await gate.enter("read", network, principal.user_id if principal else None)

    @router.get(
        "/events",
        summary="Follow rounds, memes and tallies live, and what concerns you",
        description=_description(),
        response_class=Response,
        openapi_extra=TOKEN_OPTIONAL,
        responses={
            200: {
                "description": "The stream",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            }
        },
    )
    async def stream_events(
        request: Request,
        limits: Annotated[Headers, Depends(counted)],
        caller: OptionalCaller,
        topics: Annotated[
            str | None,
            Query(
                max_length=64,
                description="`public`, `personal` or both, separated by a comma; without it:"
                " public, and personal when there is a token",
            ),
        ] = None,
        last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)] = None,
    ) -> Response:
        wanted = _topics(topics, caller)
        after = _position(last_event_id)
        principal = caller if "personal" in wanted else None
        client = Client(
            principal,
            public="public" in wanted,
            queue_max=settings.stream.queue_entries_max,
        )
        network = network_of(client_address(request.scope, settings.edge.trusted_hops))
        return EventStream(request.app.state.hub, client, after, network, limits)

    return router


class EventStream(Response):
    """An answer that goes on until client, session or process ends it."""

    media_type = "text/event-stream"

    def __init__(
        self,
        hub: Hub,
        client: Client,
        after: Position | None,
        network: str,
        headers: Mapping[str, str],
    ) -> None:
        own = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(headers={**own, **headers})
        del self.headers["Content-Length"]
        self._hub = hub
        self._client = client
        self._after = after
        self._network = network

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream.

        Raises:
            Problem: there are too many streams already.
        """

        async def send_frames(frames: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": frames, "more_body": more})

        client = self._client
        with self._hub.joined(client, self._network):
            position = self._hub.position  # what comes later is in the queue
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            await send_frames(b"retry: %d\n\n" % RECONNECT_MS)
            # Without its store a stream ends, so that its client comes again for what it missed.
            with contextlib.suppress(TimeoutError, StreamUnavailableError):
                async with asyncio.timeout_at(_expiry_s(client.principal)) as deadline:
                    client.end_by(deadline)
                    watcher = asyncio.create_task(_end_when_gone(receive, deadline))
                    try:
                        await self._feed(send_frames, position)
                    finally:
                        watcher.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await send_frames(b"", more=False)

    async def _feed(self, send_frames: SendFrames, position: Position) -> None:
        client = self._client
        if self._after is not None:
            position = await self._catch_up(send_frames, self._after)
        else:
            await send_frames(beat_frame(position))
        while True:
            await client.arrived.wait()
            client.arrived.clear()
            frames = []
            for at, frame in client.queue:
                if frame == BEAT:
                    position = max(position, at)
                    frames.append(beat_frame(position))
                elif at > position:  # else it was caught up with
                    position = at
                    frames.append(frame)
            client.queue.clear()
            if frames:
                await send_frames(b"".join(frames))

    async def _catch_up(self, send_frames: SendFrames, after: Position) -> Position:
        """Send what the client missed; gives the position up to which it knows everything."""
        try:
            while entries := await self._hub.store.read(after, size_max=READ_SIZE_MAX):
                after = entries[-1].position
                missed = [frame_of(entry) for entry in entries if self._client.sees(entry)]
                await send_frames(b"".join(missed))
        except HistoryGone:
            after = self._hub.position
            await send_frames(gap_frame(after))
        return after


async def _end_when_gone(receive: Receive, deadline: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    deadline.reschedule(asyncio.get_running_loop().time())


def _expiry_s(principal: Principal | None) -> float | None:
    """When the token expires, on the event loop's clock."""
    if principal is None:
        return None
    left_s = (principal.expires_at - datetime.now(UTC)).total_seconds()
    return asyncio.get_running_loop().time() + left_s


def _topics(topics: str | None, caller: Principal | None) -> frozenset[str]:
    if topics is None:
        return frozenset(TOPICS if caller is not None else TOPICS[:1])
    wanted = frozenset(topic.strip() for topic in topics.split(","))
    if not wanted <= set(TOPICS):
        detail = f"topics is {' or '.join(TOPICS)}, or both separated by a comma."
        raise Problem(
            422, "invalid_request", detail, [FieldError("topics", "unknown_topic", detail)]
        )
    if "personal" in wanted and caller is None:
        detail = "Personal events need the access token of POST /auth/session as a bearer token."
        raise Problem(401, "token_required", detail, headers={"WWW-Authenticate": "Bearer"})
    return wanted


def _position(last_event_id: str | None) -> Position | None:
    if not last_event_id:
        return None
    try:
        return Position.parse(last_event_id)
    except ValueError as error:
        detail = "Last-Event-ID is not the id of an event of this stream; leave it out."
        raise Problem(
            422,
            "invalid_request",
            detail,
            [FieldError("Last-Event-ID", "invalid_position", detail)],
        ) from error
