"""What every process reads of auth twice a second: the keys, and a signed list of what ended."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import jwt
import orjson

from memepool_auth.adapters.short_cache import ShortCache
from memepool_auth.domain.session import ACCESS_TOKEN_LIFETIME
from memepool_auth.store import sessions, users
from memepool_auth.use_cases.keys import KeyRing
from memepool_common.authstate import SNAPSHOT_TYPE
from memepool_common.db import Database
from memepool_common.tokens import ALGORITHM, CLOCK_SKEW_S

LIFETIME_S = 0.2
"""With the readers' half second, an ended session is over everywhere within a second."""
MARGIN = timedelta(seconds=2 * CLOCK_SKEW_S)
"""An entry stays this much longer than any token that it voids."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The answer as bytes. The ETag comes from the content: all replicas have the same."""

    body: bytes
    etag: str


class AuthState:
    """The current snapshot, computed from the database for all who ask within a moment."""

    def __init__(self, database: Database, keys: KeyRing, issuer: str) -> None:
        self._database = database
        self._keys = keys
        self._issuer = issuer
        self._last: Snapshot | None = None
        self._cache = ShortCache(self._read, LIFETIME_S)

    async def snapshot(self) -> Snapshot:
        """The snapshot, at most a fifth of a second old."""
        return await self._cache.get()

    async def _read(self) -> Snapshot:
        async with self._database.statement() as session:
            ended = await sessions.ended_with_tokens(session, MARGIN)
        async with self._database.statement() as session:
            revoked = await users.revoked_within(session, ACCESS_TOKEN_LIFETIME + MARGIN)
        claims = {
            "iss": self._issuer,
            "sessions": [str(each) for each in ended],
            "users": {str(user): at.timestamp() for user, at in revoked.items()},
        }
        keys = {"keys": [key.public_jwk for key in await self._keys.published()]}
        etag = _etag(claims, keys)
        if self._last is None or self._last.etag != etag:
            self._last = Snapshot(await self._sign(claims, keys), etag)
        return self._last

    async def _sign(self, claims: dict[str, Any], keys: dict[str, Any]) -> bytes:
        key = await self._keys.signing()
        headers = {"kid": key.kid, "typ": SNAPSHOT_TYPE}
        ended = jwt.encode(claims, key.private_key, ALGORITHM, headers=headers)
        return orjson.dumps({"keys": keys, "ended": ended})


def _etag(claims: dict[str, Any], keys: dict[str, Any]) -> str:
    content = orjson.dumps([claims, keys], option=orjson.OPT_SORT_KEYS)
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'
