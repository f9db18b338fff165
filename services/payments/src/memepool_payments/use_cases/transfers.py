"""Money from one user to another."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from memepool_chain.address import AddressError, decode_p2pkh
from memepool_chain.network import Network
from memepool_common.events import NewEvent
from memepool_common.ids import uuid7
from memepool_common.tokens import Principal
from memepool_payments import events
from memepool_payments.domain.errors import (
    IdempotencyKeyReusedError,
    InvalidRecipientError,
    NotKnownYetError,
    RefusedError,
    SelfTransferError,
    TooFastError,
)
from memepool_payments.domain.journal import (
    KEY_REUSED,
    POSTED,
    TOO_FAST,
    TRANSFER_FEE,
    Leg,
    NewJournal,
    Posting,
    movement,
    request_hash,
)
from memepool_payments.store.members import Recipient
from memepool_payments.use_cases.members import Acquaintance
from memepool_payments.use_cases.posting import Order, Poster

WAIT_S = 2.0
WAIT_STEP_S = 0.05
LINE = 1
HOUR_S = 3_600


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a caller asks for, as sent."""

    sender: Principal
    recipient: str
    amount: int
    memo: str | None
    key: str | None

    @property
    def scope(self) -> str:
        """Whose keys they are."""
        return f"user:{self.sender.user_id}"

    @property
    def ledger_key(self) -> str:
        """The key in the ledger; a call without one is never a repetition."""
        return f"transfer:{self.key}" if self.key is not None else f"once:{uuid7()}"

    @property
    def fingerprint(self) -> bytes:
        """What another call under the same key must equal."""
        return request_hash(self.recipient, self.amount, self.memo)


@dataclass(frozen=True, slots=True)
class Desk:
    """What a transfer needs: who is who, the ledger, and the rules. `fee` is in satoshis."""

    acquaintance: Acquaintance
    poster: Poster
    network: Network
    fee: int


async def transfer(desk: Desk, wanted: Transfer) -> tuple[Posting, UUID]:
    """Post a transfer, or find what was answered before; returns it with the recipient's id.

    Raises:
        RefusedError: the ledger refuses, and will for this key: funds, frozen account.
        TooFastError: the user has sent too much within this hour.
        IdempotencyKeyReusedError, SelfTransferError, InvalidRecipientError, NotKnownYetError.
    """
    recipient = await recipient_of(desk, wanted)
    source = await desk.acquaintance.meet(wanted.sender)
    fee: Iterable[Leg] = ()
    if desk.fee:
        target = await desk.acquaintance.fee_account()
        fee = movement(LINE + 1, source, target, desk.fee, TRANSFER_FEE)
    journal = NewJournal(
        scope=wanted.scope,
        key=wanted.ledger_key,
        request_hash=wanted.fingerprint,
        kind="transfer",
        legs=(*movement(LINE, source, recipient.account_id, wanted.amount), *fee),
        sender_id=wanted.sender.user_id,
        recipient_id=recipient.user_id,
        memo=wanted.memo,
    )
    order = Order(
        journal,
        announce=lambda posting: [_event(posting, wanted, recipient)],
        audit=lambda posting: _audit(posting, wanted, recipient),
    )
    posting = await desk.poster.post(order)
    if posting.outcome == KEY_REUSED:
        raise IdempotencyKeyReusedError(
            "This Idempotency-Key was used for another request; use a new key."
        )
    if posting.outcome == TOO_FAST:
        raise TooFastError(HOUR_S - int(posting.created_at.timestamp()) % HOUR_S)
    if posting.outcome != POSTED:
        raise RefusedError(posting.outcome)
    return posting, recipient.user_id


def transaction_id(journal_id: int, line: int) -> str:
    """The id of one movement of a journal; both sides see the same."""
    return f"{journal_id}-{line}"


async def recipient_of(desk: Desk, wanted: Transfer) -> Recipient:
    """Who is meant: the newly registered may take a moment to arrive.

    Raises:
        SelfTransferError, InvalidRecipientError, NotKnownYetError.
    """
    user_id, address = _named(wanted.recipient, desk.network)
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while True:
        found = await desk.acquaintance.find(user_id, address)
        if found is not None and found.user_id == wanted.sender.user_id:
            raise SelfTransferError("Sender and recipient are the same user.")
        if found is not None:
            return found
        if asyncio.get_running_loop().time() >= deadline:
            raise NotKnownYetError(f"No user {wanted.recipient} is known here (yet).")
        await asyncio.sleep(WAIT_STEP_S)


def _named(recipient: str, network: Network) -> tuple[UUID | None, str | None]:
    if len(recipient) == 36:
        try:
            return UUID(recipient), None
        except ValueError:
            pass
    try:
        decode_p2pkh(recipient, network)
    except AddressError as error:
        raise InvalidRecipientError(
            f"The recipient is neither a user id nor a wallet address: {error}"
        ) from error
    return None, recipient


def _event(posting: Posting, wanted: Transfer, recipient: Recipient) -> NewEvent:
    transfer_id = transaction_id(posting.journal_id, LINE)
    data = events.TransferPostedData(
        transaction_id=transfer_id,
        sender=wanted.sender.user_id,
        recipient=recipient.user_id,
        amount=wanted.amount,
        memo=wanted.memo,
        posted_at=posting.created_at,
    )
    return events.about_user(
        events.TRANSFER_POSTED, transfer_id, data, wanted.sender.user_id, recipient.user_id
    )


def _audit(posting: Posting, wanted: Transfer, recipient: Recipient) -> list[dict[str, Any]]:
    """A line in either feed."""
    line = {
        "at": datetime.now(UTC),
        "actor_id": wanted.sender.user_id,
        "action": "payments.transfer.posted",
        "subject": transaction_id(posting.journal_id, LINE),
        "outcome": "done",
        "address": None,
        "details": {"amount": wanted.amount},
    }
    return [{**line, "account_id": user} for user in (wanted.sender.user_id, recipient.user_id)]
