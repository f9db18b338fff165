"""Transfers. What arrives together is posted by one statement."""

import orjson
from fastapi import APIRouter, Request, Response

from memepool_common.web.deps import IdempotencyKey
from memepool_common.web.fast import Answer, FastPost, PlainRequest
from memepool_common.web.model import rfc3339
from memepool_common.web.money import MoneyRoute
from memepool_payments.api.deps import DatabaseDep, DeskDep, Member, SettingsDep
from memepool_payments.api.models import Transaction, TransferRequest
from memepool_payments.use_cases.signing import require_signature
from memepool_payments.use_cases.transfers import (
    LINE,
    Transfer,
    recipient_of,
    transaction_id,
    transfer,
)

router = APIRouter(tags=["payments"], route_class=MoneyRoute)
PATH = "/payments/transfer"


@router.post(
    PATH, status_code=201, response_model=Transaction, summary="Send money to another user"
)
async def create_transfer(
    request: Request,
    body: TransferRequest,
    caller: Member,
    database: DatabaseDep,
    desk: DeskDep,
    settings: SettingsDep,
    key: IdempotencyKey = None,
) -> Response:
    """At once and for good. With an Idempotency-Key, repetitions get the first answer.

    A large one answers 403 `signature_required` with a `challenge` (`nonce`, `message`,
    `expiresAt`, `brc100`): repeat the call with its `nonce` and the wallet's `signature` of the
    `message`; a BRC-100 wallet names `scheme` and its `publicKey`, too.
    """
    plain = PlainRequest(request.app, (), caller, body, key)
    if body.amount >= settings.money.signed_transfer_from:
        wanted = _wanted(plain)
        await recipient_of(desk, wanted)  # nobody should sign for what cannot be
        await require_signature(database, desk, wanted, body.proof)
    answer = await _transfer(plain)
    headers = {"Location": answer.location}
    return Response(answer.body, answer.status, headers, media_type="application/json")


async def _transfer_plainly(request: PlainRequest[TransferRequest]) -> Answer | None:
    if request.body.amount >= request.app.state.settings.money.signed_transfer_from:
        return None
    return await _transfer(request)


async def _transfer(request: PlainRequest[TransferRequest]) -> Answer:
    """Post it; the answer is the model `Transaction` in JSON, written out: this is the hot path."""
    posting, recipient_id = await transfer(request.app.state.desk, _wanted(request))
    transfer_id = transaction_id(posting.journal_id, LINE)
    body = {
        "id": transfer_id,
        "type": "transfer",
        "amount": request.body.amount,
        "sender": request.caller.user_id,
        "recipient": recipient_id,
        "timestamp": rfc3339(posting.created_at),
        "memo": request.body.memo,
        "txid": None,
    }
    return Answer(201, orjson.dumps(body), f"/payments/transactions/{transfer_id}")


def _wanted(request: PlainRequest[TransferRequest]) -> Transfer:
    body = request.body
    return Transfer(request.caller, body.recipient, body.amount, body.memo, request.key)


FAST_TRANSFER = FastPost(template=PATH, pattern=PATH, body=TransferRequest, act=_transfer_plainly)
"""Transfers that need no signature, and are odd in no other way, do not pass through FastAPI."""
