"""The ASGI application that hands a request to a service and its answer to the client."""

import asyncio
from collections.abc import Mapping
from contextlib import closing

import aiohttp
import structlog
from multidict import CIMultiDict
from starlette.types import Receive, Scope, Send

from memepool_common import telemetry
from memepool_common.tokens import Principal, TokenVerifier
from memepool_common.web.problem import Problem, problem_response
from memepool_gateway.cache import ReadCache, Stored
from memepool_gateway.limits import Gate
from memepool_gateway.proxy.body import ClientGone, RequestBody, linger
from memepool_gateway.proxy.headers import (
    client_address,
    has_body,
    network_of,
    request_headers,
    response_headers,
    values,
)
from memepool_gateway.proxy.sharing import asks_for_everybody, is_for_everybody
from memepool_gateway.proxy.upstream import Upstream
from memepool_gateway.routes import Route, RouteTable, clean_path
from memepool_gateway.settings import EdgeSettings, LimitSettings

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
log = structlog.get_logger(__name__)


class Proxy:
    """Finds the route, checks the token, and streams both ways.

    `tokens`, `gate`, `cache` and `upstreams` are what the lifespan of the process opens; it sets
    them.
    """

    def __init__(self, routes: RouteTable, limits: LimitSettings, edge: EdgeSettings) -> None:
        self._routes = routes
        self._limits = limits
        self._edge = edge
        self.upstreams: Mapping[str, Upstream]
        self.tokens: TokenVerifier
        self.gate: Gate
        self.cache: ReadCache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        answer = _Answer(scope, receive, send)
        try:
            await self._exchange(scope, receive, answer)
        except ClientGone:
            return
        except Problem as problem:
            await answer.refuse(problem)
        except Exception:
            log.exception("unexpected_error", path=scope["path"])
            detail = "Something went wrong at the gateway."
            await answer.refuse(Problem(500, "internal_error", detail))

    async def _exchange(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        path = clean_path(scope["raw_path"], scope["query_string"])
        route = self._routes.find(path)
        if route is None:
            raise Problem(404, "not_found", "There is no such path; GET /docs lists them all.")
        scope["route"] = route
        if scope["method"] not in METHODS:
            allowed = {"Allow": ", ".join(METHODS)}
            detail = f"{scope['method'][:20]} is not a method of this API."
            raise Problem(405, "method_not_allowed", detail, headers=allowed)
        headers = request_headers(scope["headers"])
        await self._enter(scope, route, answer)
        body = RequestBody(
            scope,
            receive,
            bytes_max=route.body_bytes_max,
            timeout_s=self._limits.body_timeout_s,
        )
        query = scope["query_string"].decode("ascii")
        target = f"{path}?{query}" if query else path
        try:
            async with asyncio.timeout(self._limits.exchange_timeout_s) as deadline:
                if body.exists and route.body_bytes_max <= self._limits.body_bytes_max:
                    await body.take_in()  # or slow clients would hold all connections to a service
                self._add_own_headers(scope, headers, body)
                watcher = asyncio.create_task(_end_when_gone(body, deadline))
                try:
                    if route.cached and asks_for_everybody(scope) and not body.exists:
                        await self._share(route, target, headers, body, answer)
                    else:
                        await self._pass_on(scope["method"], route, target, headers, body, answer)
                finally:
                    watcher.cancel()
        except TimeoutError as error:
            if isinstance(body.failure, ClientGone):
                raise body.failure from error
            detail = "The whole exchange took longer than is allowed."
            raise Problem(504, "exchange_timeout", detail) from error

    async def _enter(self, scope: Scope, route: Route, answer: "_Answer") -> None:
        """Check the token and count the call; one with a bad token counts for its address."""
        principal: Principal | None = None
        refusal: Problem | None = None
        if route.checks_token:
            try:
                authorization = values(scope, b"authorization")
                principal = self.tokens.admit(scope["method"], authorization)
            except Problem as problem:
                refusal = problem
        answer.limits = await self.gate.enter(
            route.kind_of(scope["method"]),
            network_of(client_address(scope, self._edge.trusted_hops)),
            principal.user_id if principal is not None else None,
        )
        if refusal is not None:
            raise refusal

    async def _pass_on(
        self,
        method: str,
        route: Route,
        target: str,
        headers: CIMultiDict[str],
        body: RequestBody,
        answer: "_Answer",
    ) -> None:
        upstream = self.upstreams[route.upstream]
        response = await upstream.request(
            method, target, headers, body, answer_timeout_s=route.answer_timeout_s
        )
        with closing(response):  # keeps the connection when all of the answer has been read
            await answer.relay(response, body, bytes_max=self._limits.answer_bytes_max)

    async def _share(
        self,
        route: Route,
        target: str,
        headers: CIMultiDict[str],
        body: RequestBody,
        answer: "_Answer",
    ) -> None:
        """Answer with what others are answered; what is not for others is relayed as it comes."""
        upstream = self.upstreams[route.upstream]

        async def fetch() -> Stored | None:
            response = await upstream.request(
                "GET", target, headers, body, answer_timeout_s=route.answer_timeout_s
            )
            with closing(response):
                passed = response_headers(response.raw_headers, response.status)
                if is_for_everybody(response.status, passed):
                    return Stored(tuple(passed), await upstream.read(response))
                await answer.relay(response, body, bytes_max=self._limits.answer_bytes_max)
                return None

        stored = await self.cache.answer(target, fetch)
        if stored is not None:
            await answer.give(stored)

    def _add_own_headers(self, scope: Scope, headers: CIMultiDict[str], body: RequestBody) -> None:
        if body.length is not None and (body.exists or values(scope, b"content-length")):
            headers["Content-Length"] = str(body.length)
        hops = self._edge.trusted_hops
        proto = values(scope, b"x-forwarded-proto") if hops else []
        headers["X-Forwarded-For"] = client_address(scope, hops)
        headers["X-Forwarded-Proto"] = "https" if proto[-1:] == ["https"] else scope["scheme"]
        headers["X-Forwarded-Host"] = next(iter(values(scope, b"host")), "")
        headers["X-Request-Id"] = scope["state"]["request_id"]
        traceparent = telemetry.current_traceparent()
        if traceparent is not None:
            headers["traceparent"] = traceparent


class _Answer:
    """What the client gets; knows whether its head is already on the way.

    Attributes:
        started: whether it is.
        limits: headers that tell how the client's limits stand.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self.started = False
        self.limits: Mapping[str, str] = {}

    async def refuse(self, problem: Problem) -> None:
        """A problem, unless it is too late for one: then the answer is cut, and seen to be."""
        if self.started:
            return
        self.started = True
        problem.headers = {**self.limits, **problem.headers}
        response = problem_response(problem, self._scope["path"])
        start = {"type": "http.response.start", "status": response.status_code}
        await self._send(start | {"headers": response.raw_headers})
        await self._send_body(bytes(response.body), more=True)
        if response.headers.get("connection") == "close":
            await linger(self._receive)
        await self._send_body(b"", more=False)

    async def give(self, stored: Stored) -> None:
        """An answer that is whole already."""
        self.started = True
        start = {"type": "http.response.start", "status": 200}
        await self._send(start | {"headers": [*stored.headers, *self._limit_headers()]})
        await self._send_body(stored.body, more=False)

    async def relay(
        self, response: aiohttp.ClientResponse, body: RequestBody, *, bytes_max: int
    ) -> None:
        """Stream a service's answer.

        Raises:
            Problem: 502 before the head was sent, when the answer is too large.
        """
        headers = response_headers(response.raw_headers, response.status)
        headers += self._limit_headers()
        declared = next((int(value) for name, value in headers if name == b"content-length"), None)
        if declared is not None and declared > bytes_max and self._scope["method"] != "HEAD":
            detail = f"The answer is larger than {bytes_max} bytes."
            raise Problem(502, "answer_too_large", detail)
        if not body.finished:  # the rest of it is not read
            headers.append((b"connection", b"close"))
        self.started = True
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
        await self._send(start)
        if has_body(response.status) and self._scope["method"] != "HEAD":
            try:
                await self._relay_body(response, bytes_max)
            except (aiohttp.ClientError, OSError, _TooLarge) as error:
                log.warning("answer_cut", path=self._scope["path"], error=repr(error))
                return
        if not body.finished:
            response.close()  # or it would go on reading the body
            await linger(self._receive)
        await self._send_body(b"", more=False)

    def _limit_headers(self) -> list[tuple[bytes, bytes]]:
        return [(name.lower().encode(), text.encode()) for name, text in self.limits.items()]

    async def _relay_body(self, response: aiohttp.ClientResponse, bytes_max: int) -> None:
        sent_bytes = 0
        async for chunk in response.content.iter_any():
            sent_bytes += len(chunk)
            if sent_bytes > bytes_max:
                raise _TooLarge(f"more than {bytes_max} bytes")
            await self._send_body(chunk, more=True)

    async def _send_body(self, chunk: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})


async def _end_when_gone(body: RequestBody, deadline: asyncio.Timeout) -> None:
    await body.client_gone()
    body.failure = ClientGone()
    deadline.reschedule(asyncio.get_running_loop().time())


class _TooLarge(Exception):  # noqa: N818 - the reason, for the log
    pass
