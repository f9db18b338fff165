"""Money from one user to another."""

import asyncio
import re
from dataclasses import dataclass
from uuid import UUID

from memepool_chain.address import AddressError, decode_p2pkh
from memepool_chain.network import Network
from memepool_common.ids import UUID_PATTERN, uuid7
from memepool_common.tokens import Principal
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
    NewTransfer,
    Posting,
    request_hash,
)
from memepool_payments.store.members import Recipient
from memepool_payments.use_cases.members import Acquaintance
from memepool_payments.use_cases.posting import Poster

WAIT_S = 2.0
WAIT_STEP_S = 0.05
LINE = 1
HOUR_S = 3_600
_USER_ID = re.compile(UUID_PATTERN)  # no other form: the text that is signed is one line


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
    """What a transfer needs: who is who, and the ledger."""

    acquaintance: Acquaintance
    poster: Poster
    network: Network


async def transfer(desk: Desk, wanted: Transfer) -> tuple[Posting, UUID]:
    """Post a transfer, or find what was answered before; returns it with the recipient's id.

    Raises:
        RefusedError: the ledger refuses, and will for this key: funds, frozen account.
        TooFastError: the user has sent too much within this hour.
        IdempotencyKeyReusedError, SelfTransferError, InvalidRecipientError, NotKnownYetError.
    """
    source = await desk.acquaintance.meet(wanted.sender)
    recipient = await recipient_of(desk, wanted)
    posting = await desk.poster.post(
        NewTransfer(
            sender_id=wanted.sender.user_id,
            recipient_id=recipient.user_id,
            source=source,
            target=recipient.account_id,
            amount=wanted.amount,
            memo=wanted.memo,
            key=wanted.ledger_key,
            request_hash=wanted.fingerprint,
        )
    )
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
    if _USER_ID.fullmatch(recipient):
        return UUID(recipient), None
    try:
        decode_p2pkh(recipient, network)
    except AddressError as error:
        raise InvalidRecipientError(
            f"The recipient is neither a user id nor a wallet address: {error}"
        ) from error
    return None, recipient
