"""Calls that move money: what they say is beyond doubt, or nothing happens."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from memepool_common.web.problem import FieldError, Problem


class MoneyRoute(APIRoute):
    """A route whose JSON body may not give a name twice, nor its head two keys: parsers differ in
    which one they believe, so what a wallet or a proxy has shown may not be what we would read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind the checks.

        Raises:
            Problem: 422 `repeated_name`.
        """
        handle = super().get_route_handler()

        async def unambiguous(request: Request) -> Response:
            _require_one_key(request)
            require_unique_names(await request.body())
            return await handle(request)

        return unambiguous


class _RepeatedNameError(Exception):
    pass


def require_unique_names(body: bytes) -> None:
    """Refuse JSON with an object that gives a name twice.

    Raises:
        Problem: 422 `repeated_name`.
    """
    if not body:
        return
    try:
        json.loads(body, object_pairs_hook=_unique)
    except _RepeatedNameError as error:
        detail = f"The body gives {error} more than once."
        field = FieldError(f"/{error}", "repeated_name", detail)
        raise Problem(422, "repeated_name", detail, [field]) from error
    except (ValueError, RecursionError):
        return  # what is no JSON is refused where it is parsed


def _require_one_key(request: Request) -> None:
    if len(request.headers.getlist("idempotency-key")) > 1:
        detail = "The request gives Idempotency-Key more than once."
        field = FieldError("Idempotency-Key", "repeated_name", detail)
        raise Problem(422, "repeated_name", detail, [field])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise _RepeatedNameError(repeated[:100].encode("utf-8", "replace").decode())
    return named
