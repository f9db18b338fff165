"""Sign-in: challenge, verify, and the keys that tokens are checked with."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response

from memepool_auth.adapters.signatures import parse_public_key, require_accepted
from memepool_auth.api.deps import ClientDep, DatabaseDep, SettingsDep, Unstored
from memepool_auth.api.schemas import (
    ChallengeAnswer,
    ChallengeRequest,
    Jwk,
    Jwks,
    User,
    VerifyAnswer,
    VerifyRequest,
)
from memepool_auth.domain.client import Client
from memepool_auth.domain.user import User as DomainUser
from memepool_auth.settings import Settings
from memepool_auth.store import users
from memepool_auth.use_cases import sign_in
from memepool_auth.use_cases.keys import KeyRing
from memepool_chain.address import AddressError, decode_p2pkh
from memepool_chain.network import network_named
from memepool_common.db import Database, Session
from memepool_common.web.deps import SessionDep
from memepool_common.web.problem import FieldError, Problem

router = APIRouter(tags=["auth"])
KEYS_MAX_AGE_S = 5


@router.post("/auth/challenge", status_code=201)
async def create_challenge(
    body: ChallengeRequest, settings: SettingsDep, client: ClientDep, session: SessionDep
) -> ChallengeAnswer:
    """The exact text that the wallet is to sign, good for one attempt within five minutes."""
    _require_address(body.wallet_address, settings)
    challenge = await sign_in.issue_challenge(
        session, settings.sign_in, body.wallet_address, client
    )
    return ChallengeAnswer.of(challenge)


@router.post("/auth/verify", dependencies=[Unstored])
async def verify_signature(
    body: VerifyRequest, settings: SettingsDep, client: ClientDep, database: DatabaseDep
) -> VerifyAnswer:
    """Check the signed challenge; the user is created at first sight.

    Without a signature: 401 `signature_required` with a challenge.
    """

    async def give_grant(session: Session, user: DomainUser) -> VerifyAnswer:
        grant = await sign_in.issue_grant(session, user)
        return VerifyAnswer(user=User.of(user, await users.stats(session, user.id)), grant=grant)

    return await prove(body, settings, client, database, give_grant)


@router.get("/.well-known/jwks.json")
async def read_jwks(request: Request, response: Response) -> Jwks:
    """The public keys of access tokens. A new key is published before it signs."""
    keys: KeyRing = request.app.state.keys
    response.headers["Cache-Control"] = f"public, max-age={KEYS_MAX_AGE_S}"
    published = await keys.published()
    return Jwks(keys=[Jwk.model_validate(key.public_jwk) for key in published])


async def prove(
    body: VerifyRequest,
    settings: Settings,
    client: Client,
    database: Database,
    give: Callable[[Session, DomainUser], Awaitable[sign_in.Given]],
) -> sign_in.Given:
    """What `give` gives to the user whose wallet signed.

    Raises:
        Problem: 422 for a bad address; 401 `signature_required` with a challenge.
        AuthError: the proof is not good.
    """
    _require_address(body.wallet_address, settings)
    require_accepted(
        body.scheme, has_public_key=body.public_key is not None or body.signature is None
    )
    public_key = parse_public_key(body.public_key) if body.public_key is not None else None
    if body.signature is None:
        async with database.transaction() as session:
            challenge = await sign_in.issue_challenge(
                session, settings.sign_in, body.wallet_address, client
            )
        answer = ChallengeAnswer.of(challenge).model_dump(mode="json", by_alias=True)
        detail = "Sign the challenge's message and repeat the call with its nonce and signature."
        headers = {"WWW-Authenticate": "Bearer"}
        extra = {"challenge": answer}
        raise Problem(401, "signature_required", detail, headers=headers, extra=extra)
    proof = sign_in.Proof(body.wallet_address, body.signature, body.nonce, body.scheme, public_key)
    return await sign_in.prove(database, settings.sign_in, proof, client, give)


def _require_address(wallet_address: str, settings: Settings) -> None:
    try:
        decode_p2pkh(wallet_address, network_named(settings.sign_in.network))
    except AddressError as error:
        detail = f"{error.detail[:1].upper()}{error.detail[1:]}."
        field = FieldError("/walletAddress", error.code, detail)
        raise Problem(422, error.code, detail, [field]) from error
