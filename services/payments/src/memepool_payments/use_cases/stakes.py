"""The stake of a vote, once it is not to count: void, or given back."""

from collections.abc import Sequence
from uuid import UUID

from memepool_common.db import Database, Session
from memepool_common.events import NewEvent, outbox
from memepool_payments import events
from memepool_payments.domain.journal import POSTED, Movement, NewJournal, request_hash
from memepool_payments.store import ledger, stakes
from memepool_payments.store.stakes import Refund, Vote

REFUNDS_PER_TRANSACTION = 500


async def reject(session: Session, round_id: str, votes: Sequence[Vote]) -> None:
    """Rounds does not count these votes: void where nothing is held yet, else refunded.

    Mostly they are those that we refused: then nothing is to be done, and no lock on the round
    stops the votes that others place in it.
    """
    if not await stakes.undecided(session, [vote.vote_id for vote in votes]):
        return
    state = await stakes.lock_round(session, round_id)
    await stakes.mark_void(session, votes, "vote_rejected")
    if state in ("open", "closed"):  # later, what is held was counted and belongs to the plan
        await refund(session, round_id, [vote.vote_id for vote in votes], "vote_rejected")


async def withdraw_meme(session: Session, round_id: str, content_id: UUID) -> None:
    """Refuse stakes on the meme from now on; `refund_withdrawn` gives back those held.

    After the round has closed its results stand, and RoundClosed has named what was withdrawn.
    """
    if await stakes.lock_round(session, round_id) == "open":
        await stakes.withdraw_memes(session, round_id, [content_id])


async def refund_withdrawn(database: Database) -> None:
    """Give back the stakes on withdrawn memes of open rounds, some hundred per transaction."""
    async with database.read() as session:
        rounds = await stakes.rounds_with_refunds(session)
    for round_id in rounds:
        more = True
        while more:
            async with database.transaction() as session:
                more = await refund_some(session, round_id)


async def refund_some(session: Session, round_id: str) -> bool:
    """Give back some of what is due in the round; False once nothing is."""
    await stakes.lock_round(session, round_id)
    due = await stakes.due_for_refund(session, round_id, REFUNDS_PER_TRANSACTION)
    if not due:
        await stakes.finish_refunds(session, round_id)
        return False
    await refund(session, round_id, due, "not_counted")
    return True


async def refund(session: Session, round_id: str, votes: Sequence[UUID], reason: str) -> None:
    """Give held stakes back to their voters; the round's row is locked."""
    refunds = await stakes.mark_refunded(session, round_id, votes, reason)
    if not refunds:
        return
    escrow = await ledger.escrow_account(session, round_id)
    accounts = await ledger.accounts_of(session, [each.voter_id for each in refunds])
    journals = [
        NewJournal(
            scope="stake_refund",
            key=str(each.vote_id),
            request_hash=request_hash(each.amount),
            kind="stake_refund",
            movements=[Movement(escrow, accounts[each.voter_id], each.amount)],
            round_id=round_id,
            recipient_id=each.voter_id,
        )
        for each in refunds
    ]
    for posting in await ledger.post(session, journals):
        if posting.outcome != POSTED or posting.replayed:
            raise AssertionError("a held stake is refunded exactly once")
    await outbox.append(session, [_refunded(round_id, refunds, reason)])


def _refunded(round_id: str, refunds: Sequence[Refund], reason: str) -> NewEvent:
    data = events.StakesRefundedData(
        round_id=round_id,
        vote_id=[each.vote_id for each in refunds],
        voter_id=[each.voter_id for each in refunds],
        content_id=[each.content_id for each in refunds],
        amount=[each.amount for each in refunds],
        reason=reason,
    )
    return events.about_round(events.STAKE_REFUNDED, round_id, data)
