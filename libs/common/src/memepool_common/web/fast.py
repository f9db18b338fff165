"""A short way for the few operations that are called all the time.

FastAPI and middleware spend hundreds of microseconds on a request that takes us ten. A `FastLane`
stands before them and serves only what is plainly right: path, headers, token and body are exactly
as the operation's route wants them. Everything else goes on to that route, unchanged. So FastAPI
stays the one place that describes the operation and that words its errors.
"""

import asyncio
import contextvars
import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Generic, NamedTuple, TypeVar

from fastapi import FastAPI, Request
from opentelemetry import context
from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import Scope

from memepool_common import telemetry
from memepool_common.server import Shortcut
from memepool_common.tokens import Principal, TokenVerifier
from memepool_common.web.middleware import WatchedRequest
from memepool_common.web.money import require_unique_names
from memepool_common.web.problem import Problem, unexpected

BODY_DIGITS_MAX = 3
"""A plain body has less than 1,000 bytes, and says so."""
_KEY = re.compile(r"[\x20-\x7e]{1,255}")

Body = TypeVar("Body", bound=BaseModel)


class PlainRequest(NamedTuple, Generic[Body]):
    """A request with nothing unusual about it; `path` holds what the pattern's groups matched."""

    app: FastAPI
    path: tuple[str, ...]
    caller: Principal
    body: Body
    key: str | None


class Answer(NamedTuple):
    """An answer in JSON."""

    status: int
    body: bytes
    location: str


class FastPost(NamedTuple):
    """An operation with a short way.

    Attributes:
        template: its path as its route has it, for metrics.
        pattern: matches the paths that are plainly right; its groups are the path's parameters.
        body: the model of the body.
        act: does it. What it raises is answered as if the route had raised it.
        answer: words the result; None means that nothing was done, and the route must.
    """

    template: str
    pattern: str
    body: type[BaseModel]
    act: Callable[[PlainRequest[Any]], Awaitable[Any]]
    answer: Callable[[Any], Answer | None] = lambda result: result


class FastLane:
    """Serves one operation for the server, without a task or middleware in between."""

    def __init__(self, app: FastAPI, service: str, post: FastPost) -> None:
        self._app = app
        self._service = service
        self._post = post
        self._pattern = re.compile(post.pattern)
        self._refusing: set[asyncio.Task[None]] = set()

    def claims(self, scope: Scope) -> bool:
        """Whether the request may be plain, as far as its head tells."""
        if scope["method"] != "POST" or scope["query_string"]:
            return False
        if self._pattern.fullmatch(scope["path"]) is None:
            return False
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        return length.isdigit() and len(length) <= BODY_DIGITS_MAX

    def serve(
        self,
        scope: Scope,
        body: bytes,
        reply: Callable[[Shortcut], None],
        leave: Callable[[], None],
    ) -> None:
        """Serve a plain request and `reply` sooner or later; `leave` any other."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        plain = None if len(headers) < len(scope["headers"]) else self._plain(scope, headers, body)
        if plain is None:
            leave()
            return
        watched = WatchedRequest(self._service, headers)
        within = contextvars.copy_context()

        def finish(answer: Shortcut) -> None:
            level = logging.DEBUG if answer.status < HTTPStatus.BAD_REQUEST else logging.INFO
            watched.finish(
                "POST", self._post.template, scope["path"], answer.status, log_level=level
            )
            head = b"%bx-request-id: %b\r\n" % (answer.head, watched.id.encode())
            reply(answer._replace(head=head))

        def done(future: asyncio.Future[Any]) -> None:
            error = future.exception()
            if error is not None:
                refuse(error)
            elif (answer := self._post.answer(future.result())) is not None:
                finish(_worded(answer))
            else:
                leave()

        def refuse(error: BaseException) -> None:
            async def refusal() -> None:
                finish(await self._refusal(scope, error))

            task = asyncio.create_task(refusal(), name="refusal")
            self._refusing.add(task)
            task.add_done_callback(self._refusing.discard)

        def begin() -> None:
            telemetry.IN_LOGS.set(watched.in_logs)
            context.attach(telemetry.context_of(watched.span))
            try:
                acting = asyncio.ensure_future(self._post.act(plain))
                acting.add_done_callback(done, context=within)
            except Exception as error:  # noqa: BLE001 - answered
                refuse(error)

        within.run(begin)

    def _plain(
        self, scope: Scope, headers: dict[bytes, bytes], body: bytes
    ) -> PlainRequest[BaseModel] | None:
        """The request as its route would understand it, or None if that route must look at it."""
        key = headers.get(b"idempotency-key")
        said = None if key is None else key.decode("latin-1")
        if (
            b"prefer" in headers
            or headers.get(b"content-type") != b"application/json"
            or not (said is None or _KEY.fullmatch(said))
        ):
            return None
        tokens: TokenVerifier = self._app.state.tokens
        try:
            authorization = headers.get(b"authorization", b"").decode("latin-1")
            caller = tokens.admit("POST", [authorization])
            parsed = self._post.body.model_validate_json(body)
            if body.count(b":") > len(parsed.model_fields_set):  # else each name stands there once
                require_unique_names(body)
        except (Problem, ValidationError):
            return None
        matched = self._pattern.fullmatch(scope["path"])
        if caller is None or matched is None:
            return None
        return PlainRequest(self._app, matched.groups(), caller, parsed, said)

    async def _refusal(self, scope: Scope, error: BaseException) -> Shortcut:
        """The answer that the application's handlers have for an exception."""
        if not isinstance(error, Exception):
            raise error
        handlers = self._app.exception_handlers
        handler = next((handlers[kind] for kind in type(error).__mro__ if kind in handlers), None)
        try:
            if handler is None:
                raise error
            response: Response = await handler(Request(scope), error)  # type: ignore[misc]  # ours
        except Exception as unforeseen:  # noqa: BLE001 - the last resort
            response = unexpected(unforeseen, scope["path"])
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        return Shortcut(response.status_code, head, bytes(response.body))


def _worded(answer: Answer) -> Shortcut:
    head = b"content-length: %d\r\ncontent-type: application/json\r\nlocation: %b\r\n" % (
        len(answer.body),
        answer.location.encode("latin-1"),
    )
    return Shortcut(answer.status, head, answer.body)
