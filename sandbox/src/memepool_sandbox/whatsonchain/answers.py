"""How WhatsOnChain answers: everything is JSON with a newline behind it, also plain strings."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from memepool_chain.hashing import is_hash_hex

JSON_TYPE = "application/json; charset=UTF-8"
BULK_ITEMS_MAX = 20
BAD_TXID = "txid must be 64 hex characters in length"
TOO_MANY_TXS = "Maximum number of transactions per request has been exceeded"
TOO_MANY_ADDRESSES = "Maximum number of addresses per request has been exceeded"


class Refusal(Exception):  # noqa: N818  # an answer, not a fault of ours
    """An answer other than 200; `body` None leaves it empty."""

    def __init__(self, status: int, body: str | dict[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


def answer(value: Any, status: int = 200) -> Response:
    """`value` as JSON, a newline behind it."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n"
    return Response(body.encode(), status, media_type=JSON_TYPE)


def text(value: str) -> Response:
    """Plain text as it is."""
    return PlainTextResponse(value)


def empty(status: int) -> Response:
    """No body at all."""
    return Response(b"", status)


async def on_refusal(_request: Request, error: Exception) -> Response:
    """The handler of `Refusal`."""
    if not isinstance(error, Refusal):
        raise TypeError(error)
    return empty(error.status) if error.body is None else answer(error.body, error.status)


def checked_txid(value: object) -> str:
    """`value` in lower case. Raises Refusal for what is no transaction id."""
    txid = value.lower() if isinstance(value, str) else ""
    if not is_hash_hex(txid):
        raise Refusal(400, BAD_TXID)
    return txid


async def bulk_items(request: Request, field: str, too_many: str) -> list[Any]:
    """The list in `field` of the JSON body, at most twenty. Raises Refusal."""
    body = await json_object(request)
    items = body.get(field)
    if not isinstance(items, list) or not items:
        raise Refusal(400, f"{field} must be a list that is not empty")
    if len(items) > BULK_ITEMS_MAX:
        raise Refusal(400, too_many)
    return items


async def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises Refusal."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid JSON") from error
    if not isinstance(body, dict):
        raise Refusal(400, "invalid JSON")
    return body


def query_int(request: Request, name: str, default: int, low: int, high: int) -> int:
    """An integer of the query within its bounds. Raises Refusal."""
    value = request.query_params.get(name, str(default))
    if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
        message = f"{name} can't be less than {low} or greater than {high}"
        raise Refusal(400, {"error": message})
    return int(value)


def descending(request: Request, default: str = "desc") -> bool:
    """Whether `order` asks for the newest first. Raises Refusal."""
    order = request.query_params.get("order", default).lower()
    if order not in {"asc", "desc"}:
        raise Refusal(400, {"error": "order must be asc or desc"})
    return order == "desc"
