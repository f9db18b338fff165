"""Signing keys: made once, rotated with overlap, read by every process."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from memepool_auth.adapters import sealing, signing_keys
from memepool_auth.adapters.short_cache import ShortCache
from memepool_auth.domain.session import ACCESS_TOKEN_LIFETIME
from memepool_auth.store import keys as store
from memepool_common import audit
from memepool_common.db import Database, Session
from memepool_common.tokens import CLOCK_SKEW_S

ROTATION_LEAD = timedelta(seconds=30)
"""A new key is published this long before it signs: every verifier has read it by then."""
OVERLAP = ROTATION_LEAD + ACCESS_TOKEN_LIFETIME + timedelta(seconds=2 * CLOCK_SKEW_S + 20)
"""An old key stays published until the last token that it signed has expired."""
KEYS_LIFETIME_S = 1.0


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key in hand."""

    kid: str
    private_key: EllipticCurvePrivateKey
    public_jwk: dict[str, Any]
    signs_from: datetime


class KeyRing:
    """The published keys, as of a second ago.

    They are read past the pool, as what has ended is: every process waits for them, and a flood of
    sign-ins takes all connections of the pool.
    """

    def __init__(self, database: Database, encryption_key: bytes) -> None:
        self._database = database
        self._encryption_key = encryption_key
        self._unsealed: dict[str, EllipticCurvePrivateKey] = {}
        self._cache = ShortCache(self._read, KEYS_LIFETIME_S)

    async def published(self) -> list[SigningKey]:
        """All keys that verifiers are to know."""
        return await self._cache.get()

    async def signing(self) -> SigningKey:
        """The key that signs now: the newest whose time has come."""
        now = datetime.now(UTC)
        keys = await self._cache.get()
        due = [key for key in keys if key.signs_from <= now]
        return due[-1] if due else keys[0]

    async def _read(self) -> list[SigningKey]:
        async with self._database.statement() as session:
            stored = await store.published(session)
        if not stored:
            msg = "there is no signing key yet"
            raise LookupError(msg)
        self._unsealed = {key.kid: self._unseal(key) for key in stored}
        return [
            SigningKey(key.kid, self._unsealed[key.kid], key.public_jwk, key.signs_from)
            for key in stored
        ]

    def _unseal(self, key: store.StoredKey) -> EllipticCurvePrivateKey:
        known = self._unsealed.get(key.kid)
        if known is not None:
            return known
        plain = sealing.unseal(key.sealed_private_key, self._encryption_key, _bound_to(key.kid))
        return signing_keys.from_bytes(plain)


async def ensure_signing_key(session: Session, encryption_key: bytes) -> None:
    """Make the first key if there is none; of processes that start at once, one does.

    Raises:
        SealError: there are keys, and `encryption_key` does not open them.
    """
    await store.lock(session)
    present = await store.published(session)
    for key in present:
        sealing.unseal(key.sealed_private_key, encryption_key, _bound_to(key.kid))
    if not present:
        await _add(session, encryption_key, timedelta(0))


async def rotate(session: Session, encryption_key: bytes, *, trigger: str) -> str:
    """Publish a new key that soon signs, and let the others run out; the new one's id.

    `trigger` is for the audit log: `command` or `schedule`.
    """
    await store.lock(session)
    return await _rotate(session, encryption_key, trigger)


async def rotate_if_due(session: Session, encryption_key: bytes, age: timedelta) -> str | None:
    """Rotate if the newest key has been signing for `age`; of many processes, one does."""
    await store.lock(session)
    if not await store.newest_is_older(session, age):
        return None
    return await _rotate(session, encryption_key, "schedule")


async def _rotate(session: Session, encryption_key: bytes, trigger: str) -> str:
    await store.retire(session, OVERLAP)
    kid = await _add(session, encryption_key, ROTATION_LEAD)
    await audit.record(
        session,
        actor_id=None,
        account_id=None,
        action="auth.signing_key.rotated",
        subject=kid,
        details={"trigger": trigger},
    )
    return kid


async def _add(session: Session, encryption_key: bytes, lead: timedelta) -> str:
    kid, key, public_jwk = signing_keys.generate()
    sealed = sealing.seal(signing_keys.to_bytes(key), encryption_key, _bound_to(kid))
    await store.add(session, kid, public_jwk, sealed, lead)
    return kid


def _bound_to(kid: str) -> str:
    return f"signing key {kid}"
