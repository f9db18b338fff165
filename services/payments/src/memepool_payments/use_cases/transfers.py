"""Money from one user to another."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from memepool_chain.address import AddressError, decode_p2pkh
from memepool_chain.network import Network
from memepool_common.db import Database
from memepool_common.events import NewEvent
from memepool_common.ids import uuid7
from memepool_payments import events
from memepool_payments.domain.errors import (
    IdempotencyKeyReusedError,
    InvalidRecipientError,
    NotKnownYetError,
    RefusedError,
    SelfTransferError,
)
from memepool_payments.domain.journal import (
    KEY_REUSED,
    POSTED,
    NewJournal,
    Posting,
    movement,
    request_hash,
)
from memepool_payments.store import ledger, members
from memepool_payments.store.members import Recipient
from memepool_payments.use_cases.posting import Order, Poster

WAIT_S = 2.0
WAIT_STEP_S = 0.05
LINE = 1


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a caller asks for, as sent."""

    sender_id: UUID
    recipient: str
    amount: int
    memo: str | None
    key: str | None

    @property
    def scope(self) -> str:
        """Whose keys they are."""
        return f"user:{self.sender_id}"

    @property
    def ledger_key(self) -> str:
        """The key in the ledger; a call without one is never a repetition."""
        return f"transfer:{self.key}" if self.key is not None else f"once:{uuid7()}"

    @property
    def fingerprint(self) -> bytes:
        """What another call under the same key must equal."""
        return request_hash(self.recipient, self.amount, self.memo)


async def transfer(
    database: Database, poster: Poster, network: Network, wanted: Transfer
) -> tuple[Posting, UUID]:
    """Post a transfer, or find what was answered before; returns it with the recipient's id.

    Raises:
        RefusedError: the ledger refuses, and will for this key: funds, frozen account.
        IdempotencyKeyReusedError, SelfTransferError, InvalidRecipientError, NotKnownYetError.
    """
    source, recipient = await _parties(database, network, wanted)
    if recipient.user_id == wanted.sender_id:
        raise SelfTransferError("Sender and recipient are the same user.")
    journal = NewJournal(
        scope=wanted.scope,
        key=wanted.ledger_key,
        request_hash=wanted.fingerprint,
        kind="transfer",
        legs=tuple(movement(LINE, source, recipient.account_id, wanted.amount)),
        sender_id=wanted.sender_id,
        recipient_id=recipient.user_id,
        memo=wanted.memo,
    )
    order = Order(
        journal,
        announce=lambda posting: [_event(posting, wanted, recipient)],
        audit=lambda posting: _audit(posting, wanted, recipient),
    )
    posting = await poster.post(order)
    if posting.outcome == KEY_REUSED:
        raise IdempotencyKeyReusedError(
            "This Idempotency-Key was used for another request; use a new key."
        )
    if posting.outcome != POSTED:
        raise RefusedError(posting.outcome)
    return posting, recipient.user_id


def transaction_id(journal_id: int, line: int) -> str:
    """The id of one movement of a journal; both sides see the same."""
    return f"{journal_id}-{line}"


async def _parties(database: Database, network: Network, wanted: Transfer) -> tuple[int, Recipient]:
    """The sender's account, and who is meant: the newly registered may take a moment to arrive."""
    user_id, address = _named(wanted.recipient, network)
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while True:
        async with database.read() as session:
            found = await members.recipient(session, user_id=user_id, wallet_address=address)
            accounts = await ledger.accounts_of(session, [wanted.sender_id])
        if found is not None:
            return accounts[wanted.sender_id], found
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
        sender=wanted.sender_id,
        recipient=recipient.user_id,
        amount=wanted.amount,
        memo=wanted.memo,
        posted_at=posting.created_at,
    )
    return events.about_user(
        events.TRANSFER_POSTED, transfer_id, data, wanted.sender_id, recipient.user_id
    )


def _audit(posting: Posting, wanted: Transfer, recipient: Recipient) -> list[dict[str, Any]]:
    """A line in either feed."""
    line = {
        "at": datetime.now(UTC),
        "actor_id": wanted.sender_id,
        "action": "payments.transfer.posted",
        "subject": transaction_id(posting.journal_id, LINE),
        "outcome": "done",
        "address": None,
        "details": {"amount": wanted.amount},
    }
    return [{**line, "account_id": user} for user in (wanted.sender_id, recipient.user_id)]
