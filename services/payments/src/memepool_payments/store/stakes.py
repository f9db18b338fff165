"""Stakes: one row per vote. The round's row orders them: votes share it, closing has it alone."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text

from memepool_common.arrays import texts
from memepool_common.db import Session, Statement, run
from memepool_common.events import outbox
from memepool_common.events.consumer import rows_in_sql
from memepool_payments.store import ledger

_HOLD = "{}select hold_votes(%b::text[], %s::uuid[], %s::text){}"
_UNDECIDED = text(
    "select v from unnest(cast(:votes as uuid[])) as v left join stake s on s.vote_id = v"
    " where s.vote_id is null or s.state = 'held'"
)
_REFUND = text(
    "update stake set state = 'refunded', reason = :reason, decided_at = now()"
    " where vote_id = any(cast(:votes as uuid[])) and round_id = :round_id and state = 'held'"
    " returning vote_id, voter_id, content_id, amount"
)
_VOID = text(
    "insert into stake (vote_id, round_id, content_id, voter_id, amount, state, reason)"
    " select v.*, 'void', :reason from unnest(cast(:votes as uuid[]), cast(:rounds as text[]),"
    " cast(:contents as uuid[]), cast(:voters as uuid[]), cast(:amounts as bigint[])) as v"
    " order by 1 on conflict do nothing"
)
_LOST = text(
    "select s.vote_id from stake s where s.round_id = :round_id and s.state = 'held' and ("
    " s.content_id in (select content_id from withdrawn_meme w where w.round_id = :round_id)"
    " or s.vote_id in (select unnest(d.void) from distribution d where d.round_id = :round_id))"
    " order by s.vote_id limit :limit"
)
_HELD = text(
    "select vote_id from stake where round_id = :round_id and state = 'held'"
    " order by vote_id limit :limit"
)


class Vote(NamedTuple):
    """A vote that rounds rejected."""

    vote_id: UUID
    round_id: str
    voter_id: UUID | None
    content_id: UUID | None
    amount: int | None


class Refund(NamedTuple):
    """A stake that goes back."""

    vote_id: UUID
    voter_id: UUID
    content_id: UUID
    amount: int


async def hold(session: Session | Statement, bodies: Sequence[str]) -> None:
    """Decide the stakes in the bodies of `rounds.vote.placed` that have no row yet, and answer with
    an event for each round and outcome. Takes every lock that it needs, in order."""
    told = outbox.written_in_sql(session, 2 * len(bodies))
    rows = rows_in_sql(session)
    values = (*rows.values, texts(bodies), told["event_ids"], told["traceparent"])
    await run(session, _HOLD.format(rows.before, rows.after), values)


async def undecided(session: Session, votes: Sequence[UUID]) -> bool:
    """Whether any of these votes has no row yet, or money held. All else is final."""
    return (await session.execute(_UNDECIDED, {"votes": list(votes)})).first() is not None


async def lock_round(session: Session, round_id: str) -> str:
    """Have the round alone until the transaction ends; returns its state, `open` if it is new."""
    await ledger.open_escrow(session, round_id)
    values = {"round_id": round_id}
    insert = "insert into payment_round (round_id) values (:round_id) on conflict do nothing"
    await session.execute(text(insert), values)
    query = "select state from payment_round where round_id = :round_id for update"
    return str((await session.execute(text(query), values)).scalar_one())


async def mark_refunded(
    session: Session, round_id: str, votes: Sequence[UUID], reason: str
) -> list[Refund]:
    """Take held stakes out of their round; those that are not held are left out."""
    values = {"votes": list(votes), "round_id": round_id, "reason": reason}
    return sorted(Refund(*row) for row in await session.execute(_REFUND, values))


async def mark_void(session: Session, votes: Sequence[Vote], reason: str) -> None:
    """Remember votes that were rejected before their stake was asked for."""
    await session.execute(
        _VOID,
        {
            "votes": [vote.vote_id for vote in votes],
            "rounds": [vote.round_id for vote in votes],
            "contents": [vote.content_id for vote in votes],
            "voters": [vote.voter_id for vote in votes],
            "amounts": [vote.amount for vote in votes],
            "reason": reason,
        },
    )


async def withdraw_memes(session: Session, round_id: str, contents: Sequence[UUID]) -> None:
    """From now on, stakes on these memes are refused; those held are due for refund."""
    await session.execute(
        text(
            "insert into withdrawn_meme (round_id, content_id)"
            " select :round_id, c from unnest(cast(:contents as uuid[])) as c order by c"
            " on conflict do nothing"
        ),
        {"round_id": round_id, "contents": list(contents)},
    )


async def due_for_refund(session: Session, round_id: str, limit: int) -> list[UUID]:
    """Held stakes on withdrawn memes, and those that the tally calls void."""
    values = {"round_id": round_id, "limit": limit}
    return list((await session.execute(_LOST, values)).scalars())


async def held(session: Session, round_id: str, limit: int) -> list[UUID]:
    """Some of the round's held stakes."""
    values = {"round_id": round_id, "limit": limit}
    return list((await session.execute(_HELD, values)).scalars())


async def finish_refunds(session: Session, round_id: str) -> None:
    """No stake on the round's withdrawn memes is held any more."""
    await session.execute(
        text("update withdrawn_meme set refunded = true where round_id = :r and not refunded"),
        {"r": round_id},
    )


async def rounds_with_refunds(session: Session) -> list[str]:
    """Open rounds where a withdrawn meme may still have held stakes."""
    query = (
        "select distinct w.round_id from withdrawn_meme w join payment_round r"
        " on r.round_id = w.round_id where not w.refunded and r.state = 'open' order by 1"
    )
    return list((await session.execute(text(query))).scalars())
