"""Which headers cross the gateway, and which it writes itself."""

import functools
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from multidict import CIMultiDict

from memepool_common.web.problem import Problem

Headers = Iterable[tuple[bytes, bytes]]

HEADERS_BYTES_MAX = 32 * 1024
HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer"),
        *(b"transfer-encoding", b"upgrade", b"http2-settings"),
    }
)
"""About one connection only (RFC 9110, section 7.6.1)."""

_NOT_FROM_CLIENTS = HOP_BY_HOP | {
    *(b"host", b"content-length", b"expect", b"forwarded", b"x-real-ip", b"x-client-ip"),
    *(b"true-client-ip", b"cf-connecting-ip", b"x-original-url", b"x-rewrite-url"),
    *(b"x-http-method-override", b"x-method-override", b"x-http-method", b"x-request-id"),
    *(b"traceparent", b"proxy-authorization"),
}
_NOT_FROM_SERVICES = HOP_BY_HOP | {b"date", b"server", b"content-length", b"x-request-id"}


def request_headers(headers: Headers) -> CIMultiDict[str]:
    """What of a client's headers goes on to a service.

    Raises:
        Problem: 431 `headers_too_large`, 400 `malformed_header`.
    """
    items = list(headers)
    if sum(len(name) + len(value) for name, value in items) > HEADERS_BYTES_MAX:
        detail = f"The headers are larger than {HEADERS_BYTES_MAX} bytes."
        raise Problem(431, "headers_too_large", detail)
    dropped = _NOT_FROM_CLIENTS | _named_by_connection(items)
    passed: CIMultiDict[str] = CIMultiDict()
    for name, value in items:
        # An underscore may read as a hyphen further on, and so smuggle a header past this list.
        if name in dropped or b"_" in name or name.startswith((b"x-forwarded-", b"proxy-")):
            continue
        try:
            passed.add(name.decode("ascii"), value.decode("utf-8"))
        except UnicodeDecodeError as error:
            detail = f"The header {name.decode('latin-1')!r} is not UTF-8 text."
            raise Problem(400, "malformed_header", detail) from error
    return passed


def response_headers(headers: Headers, status: int) -> list[tuple[bytes, bytes]]:
    """What of a service's headers goes on to the client."""
    items = [(name.lower(), value) for name, value in headers]
    dropped = _NOT_FROM_SERVICES | _named_by_connection(items)
    passed = [
        (name, value)
        for name, value in items
        if name not in dropped and not name.startswith(b"access-control-")
    ]
    chunked = any(name == b"transfer-encoding" for name, _ in items)
    if not chunked and has_body(status):
        passed += [item for item in items if item[0] == b"content-length"][:1]
    return passed


def has_body(status: int) -> bool:
    """Whether an answer of that status may have a body."""
    return status >= 200 and status not in (204, 205, 304)


def values(scope: Mapping[str, Any], name: bytes) -> list[str]:
    """All values of one header of a request, in order."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def client_address(scope: Mapping[str, Any], trusted_hops: int) -> str:
    """The address of the client: the rightmost one that no trusted proxy of ours has.

    Each trusted proxy appends the address that it was called from to X-Forwarded-For. What
    stands further left came from the client and says nothing.
    """
    peer = (scope.get("client") or ("0.0.0.0", 0))[0]
    if trusted_hops == 0:
        return str(peer)
    listed = ",".join(values(scope, b"x-forwarded-for"))
    chain = [part.strip() for part in listed.split(",") if part.strip()] + [peer]
    address = chain[max(0, len(chain) - 1 - trusted_hops)]
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return str(peer)


@functools.lru_cache(maxsize=10_000)
def network_of(address: str) -> str:
    """What limits count as one client: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:  # what a socket of both families sees
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _named_by_connection(headers: Headers) -> set[bytes]:
    named: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            named.update(part.strip().lower() for part in value.split(b","))
    return named
