"""What every process knows of auth: the public keys, and the sessions that have ended.

Read from auth's internal port every half second with an ETag. A process is not ready before the
first answer; once the reads have failed for some seconds, writes are refused (see `web.deps`).
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import jwt
import structlog

from memepool_common.pausing import pause
from memepool_common.settings import AuthnSettings
from memepool_common.telemetry import AUTH_SILENT_SECONDS

SNAPSHOT_PATH = "/internal/auth-state"
SNAPSHOT_TYPE = "auth-state+jwt"
SNAPSHOT_BYTES_MAX = 16 * 1024 * 1024
TIMEOUT_S = 2.0
log = structlog.get_logger(__name__)


class AuthState:
    """Keys by id, ended session ids, and users whose tokens before an instant are void.

    Attributes:
        keys: the public keys by their ids; another mapping whenever they have changed.
    """

    def __init__(self, *, stale_after_s: float = 5.0) -> None:
        self._stale_after_s = stale_after_s
        self.keys: Mapping[str, Any] = {}
        self._jwks: Any = None
        self._ended: frozenset[UUID] = frozenset()
        self._not_before: Mapping[UUID, float] = {}
        self._read_at_s: float | None = None

    def has_ended(self, session_id: UUID, user_id: UUID, issued_at: datetime) -> bool:
        """Whether the session has ended, or all of the user's tokens of that time have."""
        if session_id in self._ended:
            return True
        not_before_s = self._not_before.get(user_id)
        return not_before_s is not None and issued_at.timestamp() < not_before_s

    @property
    def known(self) -> bool:
        """Whether auth has ever answered this process."""
        return self._read_at_s is not None

    @property
    def fresh(self) -> bool:
        """Whether auth has answered recently enough to accept writes."""
        return (
            self._read_at_s is not None
            and time.monotonic() - self._read_at_s <= self._stale_after_s
        )

    def confirm(self) -> None:
        """Auth says that nothing has changed."""
        self._read_at_s = time.monotonic()

    def replace(self, snapshot: Mapping[str, Any]) -> None:
        """Take over a snapshot: `{keys: JWKS, ended: "<signed list>"}`.

        Raises:
            jwt.PyJWTError, KeyError, ValueError: it is not one; the old one stays.
        """
        keys = self.keys
        if snapshot["keys"] != self._jwks:
            jwks = jwt.PyJWKSet.from_dict(snapshot["keys"])
            keys = {str(key.key_id): key.key for key in jwks.keys}
        signed = snapshot["ended"]
        header = jwt.get_unverified_header(signed)
        if header.get("typ") != SNAPSHOT_TYPE:
            raise ValueError("not a list of ended sessions")
        ended = jwt.decode(signed, keys[header["kid"]], algorithms=["ES256"])
        sessions = frozenset(UUID(session) for session in ended["sessions"])
        users = {UUID(user): float(not_before) for user, not_before in ended["users"].items()}
        self.keys, self._jwks = keys, snapshot["keys"]
        self._ended, self._not_before = sessions, users
        self.confirm()


async def poll(state: AuthState, settings: AuthnSettings, stopping: asyncio.Event) -> None:
    """Keep `state` up to date until `stopping` is set."""
    etag: str | None = None
    failing = False
    answered_at_s = time.monotonic()
    async with httpx.AsyncClient(base_url=settings.internal_url, timeout=TIMEOUT_S) as client:
        while not stopping.is_set():
            try:
                headers = {"If-None-Match": etag} if etag else {}
                answer = await client.get(SNAPSHOT_PATH, headers=headers)
                if answer.status_code == httpx.codes.NOT_MODIFIED:
                    state.confirm()
                else:
                    answer.raise_for_status()
                    if len(answer.content) > SNAPSHOT_BYTES_MAX:
                        raise ValueError("the snapshot is too large")
                    state.replace(answer.json())
                    etag = answer.headers.get("ETag")
                failing = False
                answered_at_s = time.monotonic()
            except Exception as error:  # noqa: BLE001 - whatever it says, it is asked again
                if not failing:
                    log.warning("auth_state_unavailable", error=repr(error))
                failing = True
            AUTH_SILENT_SECONDS.set(time.monotonic() - answered_at_s)
            await pause(stopping, settings.poll_interval_s)
