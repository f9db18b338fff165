"""`Idempotency-Key`: a repeated POST gets the first one's answer, in the same transaction."""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import orjson
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import delete, func, insert, select, text

from memepool_common.db import Session
from memepool_common.tables import idempotency_key
from memepool_common.web.problem import Problem

KEPT = timedelta(days=7)
_UNFINGERPRINTED = {"nonce", "signature"}


def fingerprint(request: Any) -> bytes:
    """SHA-256 of the canonical request, without what a signed repetition must change."""
    if isinstance(request, BaseModel):
        request = request.model_dump(mode="json", by_alias=True, exclude=_UNFINGERPRINTED)
    return hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS, default=str)).digest()


async def once(
    session: Session,
    *,
    scope: str,
    operation: str,
    key: str | None,
    request: Any,
    status: int,
    act: Callable[[], Awaitable[BaseModel]],
) -> Response:
    """Do `act` at most once per (scope, operation, key), and answer with its result.

    Without a key it is simply done. Only successes are kept: a refusal may be tried again.

    Raises:
        Problem: 409 `request_in_progress` while the first one runs; 422 `idempotency_key_reused`
            when the key was used with another body.
    """
    if key is None:
        return _answer(status, _body(await act()))
    identity = {"scope": scope, "operation": operation, "key": key}
    digest = fingerprint(request)
    lock = hashlib.sha256(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)).digest()
    lock_id = int.from_bytes(lock[:8], "big", signed=True)
    taken = text("select pg_try_advisory_xact_lock(:id)")
    if not (await session.execute(taken, {"id": lock_id})).scalar_one():
        detail = "The first request with this Idempotency-Key is still running."
        raise Problem(409, "request_in_progress", detail, headers={"Retry-After": "1"})
    stored = (
        await session.execute(
            select(idempotency_key).where(
                *(idempotency_key.c[column] == value for column, value in identity.items())
            )
        )
    ).one_or_none()
    if stored is not None:
        if stored.request_hash != digest:
            detail = "This Idempotency-Key was used for another request; use a new key."
            raise Problem(422, "idempotency_key_reused", detail)
        return _answer(stored.status, stored.body, {"Idempotent-Replayed": "true"})
    body = _body(await act())
    row = {**identity, "request_hash": digest, "status": status, "body": body}
    await session.execute(insert(idempotency_key).values(row))
    return _answer(status, body)


async def forget_old(session: Session) -> None:
    """Delete keys older than they are promised to be kept."""
    await session.execute(
        delete(idempotency_key).where(idempotency_key.c.created_at < func.now() - KEPT)
    )


def _body(result: BaseModel) -> bytes:
    return result.model_dump_json(by_alias=True).encode()


def _answer(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")
