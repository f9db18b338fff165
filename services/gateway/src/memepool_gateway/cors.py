"""Cross-origin requests (the Fetch standard): answered for the configured origins, exactly."""

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memepool_common.web.problem import Problem, problem_response

PREFLIGHT_AGE_S = 600
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
REQUEST_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, Prefer,"
    " Range, X-Request-Id, traceparent"
)
RESPONSE_HEADERS = (
    "Accept-Ranges, Content-Range, ETag, Location, Preference-Applied, RateLimit,"
    " RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id"
)


class Cors:
    """Answers preflights and marks answers as readable by pages of the given origins."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not self._origins:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if (
            scope["method"] == "OPTIONS"
            and origin is not None
            and "access-control-request-method" in headers
        ):
            await self._preflight(scope["path"], origin)(scope, receive, send)
            return
        allowed = origin if origin in self._origins else None

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                marked = MutableHeaders(scope=message)
                marked.add_vary_header("Origin")
                if allowed is not None:
                    marked["Access-Control-Allow-Origin"] = allowed
                    # For the refresh token's cookie, which is SameSite=Strict besides.
                    marked["Access-Control-Allow-Credentials"] = "true"
                    marked["Access-Control-Expose-Headers"] = RESPONSE_HEADERS
            await send(message)

        await self._app(scope, receive, send_marked)

    def _preflight(self, path: str, origin: str) -> Response:
        if origin not in self._origins:
            detail = "Pages of this origin may not call this API."
            refusal = Problem(403, "origin_not_allowed", detail, headers={"Vary": "Origin"})
            return problem_response(refusal, path)
        return Response(
            status_code=204,
            headers={
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Credentials": "true",
                "Access-Control-Allow-Methods": METHODS,
                "Access-Control-Allow-Headers": REQUEST_HEADERS,
                "Access-Control-Max-Age": str(PREFLIGHT_AGE_S),
                "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
            },
        )
