"""Challenges: bounded in number, each used once.

Where an address or the whole has too many, the oldest give way: nobody who asks for many keeps
anybody else from getting one.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import text

from memepool_auth.domain.challenge import PURPOSE, Challenge
from memepool_common.db import Session

# Materialized: a plan that runs the limit several times would drop more than it says.
_DROP_OLDEST_OF_ADDRESS = text("""
with oldest as materialized (select nonce from challenge
  where address_key = :address_key and used_at is null and expires_at > now()
  order by expires_at desc, issued_at desc offset :kept for update skip locked)
delete from challenge where nonce in (select nonce from oldest)
""")
_TOTAL = text("""
select count(*) from (select from challenge where expires_at > now() limit :limit) c
""")
_DROP_OLDEST = text("""
with oldest as materialized (select nonce from challenge where expires_at > now()
  order by expires_at, issued_at limit :count for update skip locked)
delete from challenge where nonce in (select nonce from oldest)
""")
_INSERT = text("""
insert into challenge (nonce, wallet_address, address_key, domain, purpose, message, issued_at,
  expires_at)
values (:nonce, :wallet_address, :address_key, :domain, :purpose, :message, :issued_at,
  :expires_at)
""")
_OPEN = text("""
select nonce from challenge
where wallet_address = :wallet_address and address_key = :address_key
  and domain = :domain and purpose = :purpose and used_at is null and expires_at > now() limit 2
""")
_CONSUME = text("""
update challenge set used_at = now()
where nonce = :nonce and wallet_address = :wallet_address
  and domain = :domain and purpose = :purpose and used_at is null and expires_at > now()
returning message
""")
_FIND = text("""
select wallet_address, domain, purpose, used_at is not null as used from challenge
where nonce = :nonce
""")


async def drop_oldest_of_address(session: Session, address_key: str, kept: int) -> None:
    """Forget the open challenges that an address asked for, but for the newest `kept`."""
    given = {"address_key": address_key, "kept": kept}
    await session.execute(_DROP_OLDEST_OF_ADDRESS, given)


async def total(session: Session, limit: int) -> int:
    """How many unexpired ones there are, up to `limit`."""
    count: int = (await session.execute(_TOTAL, {"limit": limit})).scalar_one()
    return count


async def drop_oldest(session: Session, count: int) -> None:
    """Forget the oldest ones of all."""
    await session.execute(_DROP_OLDEST, {"count": count})


async def add(session: Session, challenge: Challenge, address_key: str) -> None:
    """Keep a challenge that this address asked for."""
    row = {
        "nonce": challenge.nonce,
        "wallet_address": challenge.wallet_address,
        "address_key": address_key,
        "domain": challenge.domain,
        "purpose": PURPOSE,
        "message": challenge.message,
        "issued_at": challenge.issued_at,
        "expires_at": challenge.expires_at,
    }
    await session.execute(_INSERT, row)


async def open_nonces(
    session: Session, wallet_address: str, address_key: str, domain: str
) -> list[str]:
    """The nonces of a wallet's open challenges that this address asked for, two at the most."""
    given = {
        "wallet_address": wallet_address,
        "address_key": address_key,
        "domain": domain,
        "purpose": PURPOSE,
    }
    found = await session.execute(_OPEN, given)
    return list(found.scalars())


async def consume(session: Session, nonce: str, wallet_address: str, domain: str) -> str | None:
    """Use a nonce up; the message that it belongs to, or None if it is not good.

    One conditional update: of any number of attempts on any number of replicas, one gets it.
    """
    given = {
        "nonce": nonce,
        "wallet_address": wallet_address,
        "domain": domain,
        "purpose": PURPOSE,
    }
    return (await session.execute(_CONSUME, given)).scalar_one_or_none()


async def find(session: Session, nonce: str) -> Any | None:
    """`wallet_address`, `domain`, `purpose` and `used` of a challenge."""
    return (await session.execute(_FIND, {"nonce": nonce})).one_or_none()


async def database_time(session: Session) -> datetime:
    """The clock that all replicas share."""
    now: datetime = (await session.execute(text("select now()"))).scalar_one()
    return now
