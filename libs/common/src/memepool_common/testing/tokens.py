"""A token issuer with a key of its own, in place of auth."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from memepool_common.authstate import SNAPSHOT_TYPE, AuthState
from memepool_common.ids import uuid7
from memepool_common.tokens import ALGORITHM, Principal, TokenVerifier, encode

ISSUER = "memepool-auth"
AUDIENCE = "memepool"
KEY_ID = "test-key"


class TestIssuer:
    """Issues tokens that `verifier` accepts."""

    __test__ = False

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.state = AuthState(stale_after_s=3600)
        self.snapshot: dict[str, Any] = {}
        self.end()

    @property
    def verifier(self) -> TokenVerifier:
        """A verifier that knows this issuer's key."""
        return TokenVerifier(self.state, issuer=ISSUER, audience=AUDIENCE)

    def end(self, *sessions: UUID, users: dict[UUID, datetime] | None = None) -> None:
        """Publish these sessions, and users up to an instant, as ended."""
        claims = {
            "sessions": [str(session) for session in sessions],
            "users": {str(user): at.timestamp() for user, at in (users or {}).items()},
        }
        headers = {"kid": KEY_ID, "typ": SNAPSHOT_TYPE}
        jwk = json.loads(ECAlgorithm.to_jwk(self._key.public_key())) | {"kid": KEY_ID}
        ended = jwt.encode(claims, self._key, ALGORITHM, headers=headers)
        self.snapshot = {"keys": {"keys": [jwk]}, "ended": ended}
        self.state.replace(self.snapshot)

    @property
    def etag(self) -> str:
        """Changes with every snapshot: no two ES256 signatures are alike."""
        return f'"{self.snapshot["ended"].rpartition(".")[2]}"'

    def principal(
        self, role: str = "viewer", *, user_id: UUID | None = None, wallet: str | None = None
    ) -> Principal:
        """Someone new, signed in just now for five minutes."""
        now = datetime.now(UTC)
        user_id = user_id or uuid7()
        return Principal(
            user_id=user_id,
            session_id=uuid7(),
            role=role,
            wallet_address=wallet or f"1Test{user_id.hex[-20:]}",
            created_at=now,
            issued_at=now,
            expires_at=now + timedelta(minutes=5),
        )

    def token(self, principal: Principal) -> str:
        """The principal's access token."""
        return encode(principal, self._key, KEY_ID, issuer=ISSUER, audience=AUDIENCE)

    def headers(self, principal: Principal) -> dict[str, str]:
        """The principal's Authorization header."""
        return {"Authorization": f"Bearer {self.token(principal)}"}
