"""Which service answers which path, and within what limits."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from memepool_common.web.problem import Problem
from memepool_gateway.limits.gate import Kind
from memepool_gateway.settings import LimitSettings

PATH_LENGTH_MAX = 2_048
QUERY_LENGTH_MAX = 8_192
VERSION_PREFIX = "/v1"
UPLOADS = "uploads"
"""The content service, reached over connections of its own."""
READS = frozenset({"GET", "HEAD", "OPTIONS"})

_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_DOTS = re.compile(r"/\.{1,2}(?:/|$)")
# What another parser might take for a separator, a dot or the end of the text.
_ENCODED_TRICK = re.compile(r"%(?:2[ef]|5c|7f|25|[01][0-9a-f])", re.IGNORECASE)
# Characters that mean the same unencoded (RFC 3986, section 2.3); the dot is refused above.
_ENCODED_PLAIN = re.compile(r"%(?:2d|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9ae])", re.IGNORECASE)
_QUERY = re.compile(r"[\x21-\x7e]*")


@dataclass(frozen=True, slots=True)
class Route:
    """Paths that share an upstream and limits.

    Attributes:
        path: a template (`{name}` stands for one segment); a prefix when it ends in `/*`, which
            also covers the path before that.
        upstream: the service, or `UPLOADS`.
        body_bytes_max: of the request.
        answer_timeout_s: until the first byte of the answer, and between any two.
        checks_token: False where the service alone can judge the Authorization header.
        kind: what calls count as for the rate limits; None: by their method.
        cached: whether answers to reads without a token are the same for everybody, and many ask.
    """

    path: str
    upstream: str
    body_bytes_max: int
    answer_timeout_s: float
    checks_token: bool = True
    kind: Kind | None = None
    cached: bool = False

    def kind_of(self, method: str) -> Kind:
        """What a call counts as."""
        return self.kind or ("read" if method in READS else "write")


class RouteTable:
    """Finds the first route that covers a path."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._by_head: dict[str, list[tuple[re.Pattern[str], Route]]] = {}
        for route in routes:
            head = route.path.split("/", 2)[1]
            self._by_head.setdefault(head, []).append((_pattern(route.path), route))

    def find(self, path: str) -> Route | None:
        """The route of a path as `clean_path` gave it."""
        for pattern, route in self._by_head.get(path.split("/", 2)[1], ()):
            if pattern.fullmatch(path):
                return route
        return None


def route_table(limits: LimitSettings) -> RouteTable:
    """The routes of Memepool. More specific ones come first."""

    def route(
        path: str,
        upstream: str,
        *,
        body_bytes_max: int = limits.body_bytes_max,
        answer_timeout_s: float = limits.answer_timeout_s,
        checks_token: bool = True,
        kind: Kind | None = None,
        cached: bool = False,
    ) -> Route:
        return Route(path, upstream, body_bytes_max, answer_timeout_s, checks_token, kind, cached)

    return RouteTable(
        [
            route("/.well-known/jwks.json", "auth"),
            # A client whose access token has just expired comes here for a new one, often with
            # the old one still in the header.
            route("/auth/challenge", "auth", checks_token=False, kind="sign_in"),
            route("/auth/verify", "auth", checks_token=False, kind="sign_in"),
            route("/auth/session", "auth", checks_token=False, kind="sign_in"),
            route("/auth/*", "auth"),
            route(
                "/content/upload",
                UPLOADS,
                body_bytes_max=limits.upload_bytes_max,
                answer_timeout_s=60.0,
                kind="upload",
            ),
            route("/content/*", "content"),
            route("/rounds/{roundId}/bundle", "rounds", answer_timeout_s=60.0),
            route("/rounds", "rounds", cached=True),
            route("/rounds/{roundId}", "rounds", cached=True),
            route("/rounds/{roundId}/results", "rounds", cached=True),
            route("/rounds/{roundId}/submissions", "rounds", cached=True),
            route("/rounds/*", "rounds"),
            route("/payments/arc/callback", "payments", checks_token=False),  # ARC's own token
            route("/payments/*", "payments"),
        ]
    )


def clean_path(raw_path: bytes, query: bytes) -> str:
    """The path as every parser behind us will read it, without `/v1`.

    It stays percent-encoded where that means something. Where it does not, `/auth/%73ession` would
    be a path of its own to our routes and their limits, and the same as ever to the service.

    Raises:
        Problem: 400 `malformed_path`, 414 `path_too_long`.
    """
    if len(raw_path) > PATH_LENGTH_MAX or len(query) > QUERY_LENGTH_MAX:
        detail = f"A path has at most {PATH_LENGTH_MAX} bytes, a query {QUERY_LENGTH_MAX}."
        raise Problem(414, "path_too_long", detail)
    path = raw_path.decode("latin-1")
    if (
        not _PATH.fullmatch(path)
        or "//" in path
        or _DOTS.search(path)
        or _ENCODED_TRICK.search(path)
        or not _is_utf8(path)
        or not _QUERY.fullmatch(query.decode("latin-1"))
    ):
        detail = (
            "The path holds empty or dot segments, an encoded slash, dot, percent or control"
            " character, or bytes that are not URL text."
        )
        raise Problem(400, "malformed_path", detail)
    return without_version(_ENCODED_PLAIN.sub(_decoded, path))


def without_version(path: str) -> str:
    """The path without a leading `/v1`."""
    return path.removeprefix(VERSION_PREFIX) if path.startswith(VERSION_PREFIX + "/") else path


def _decoded(encoded: re.Match[str]) -> str:
    return chr(int(encoded[0][1:], 16))


def _is_utf8(path: str) -> bool:
    if "%" not in path:
        return True
    try:
        unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _pattern(template: str) -> re.Pattern[str]:
    prefix = template.endswith("/*")
    parts = re.split(r"\{\w+\}", template.removesuffix("/*"))
    return re.compile("[^/]+".join(map(re.escape, parts)) + ("(?:/.*)?" if prefix else ""))
