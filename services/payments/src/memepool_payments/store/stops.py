"""The stop on withdrawals: set by the reconciler, lifted by people with the owner's role."""

from sqlalchemy import text

from memepool_common.db import Session


async def stop(session: Session, reason: str) -> bool:
    """Stop withdrawals; False if they are already stopped (the first reason stays)."""
    query = "insert into withdrawal_stop (reason) values (:reason) on conflict do nothing"
    return bool((await session.execute(text(query), {"reason": reason})).rowcount)


async def reason(session: Session) -> str | None:
    """Why withdrawals are stopped; None while they are not."""
    query = text("select reason from withdrawal_stop")
    found: str | None = (await session.execute(query)).scalar_one_or_none()
    return found
