"""Challenges: bounded in number, each used once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from memepool_auth.domain.challenge import Challenge
from memepool_common.db import Session

# The rows looked at never exceed the limits, so a flood does not make counting slow.
_OCCUPANCY = text("""
select
  (select count(*) from (select from challenge where wallet_address = :wallet_address
     and address_prefix is not distinct from :address_prefix
     and used_at is null and expires_at > now() limit :wallet_max) w) as wallet,
  (select count(*) from (select from challenge
     where address_prefix is not distinct from :address_prefix
     and expires_at > now() limit :prefix_max) p) as prefix,
  (select count(*) from (select from challenge where expires_at > now() limit :total_max) t)
    as total
""")
_WAIT = text("""
select greatest(1, ceil(extract(epoch from min(expires_at) - now())))::int from challenge
where expires_at > now()
  and (:scope = 'total' or address_prefix is not distinct from :address_prefix)
  and (:scope <> 'wallet' or (wallet_address = :wallet_address and used_at is null))
""")
_INSERT = text("""
insert into challenge (nonce, wallet_address, address_prefix, message, issued_at, expires_at)
values (:nonce, :wallet_address, :address_prefix, :message, :issued_at, :expires_at)
""")
_OPEN = text("""
select nonce from challenge
where wallet_address = :wallet_address and used_at is null and expires_at > now() limit 2
""")
_CONSUME = text("""
update challenge set used_at = now()
where nonce = :nonce and wallet_address = :wallet_address
  and used_at is null and expires_at > now()
returning message
""")
_FIND = text("""
select wallet_address, used_at is not null as used, expires_at <= now() as expired
from challenge where nonce = :nonce
""")


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How many unexpired challenges there are, counted up to the limits given."""

    wallet: int
    prefix: int
    total: int


async def occupancy(
    session: Session,
    wallet_address: str,
    address_prefix: str | None,
    *,
    wallet_max: int,
    prefix_max: int,
    total_max: int,
) -> Occupancy:
    """Unused ones of this wallet from this network, all from this network, all."""
    given = {
        "wallet_address": wallet_address,
        "address_prefix": address_prefix,
        "wallet_max": wallet_max,
        "prefix_max": prefix_max,
        "total_max": total_max,
    }
    row = (await session.execute(_OCCUPANCY, given)).one()
    return Occupancy(row.wallet, row.prefix, row.total)


async def wait_s(
    session: Session, scope: str, wallet_address: str, address_prefix: str | None
) -> int:
    """Seconds until the oldest challenge of a scope (`wallet`, `prefix`, `total`) expires."""
    given = {"scope": scope, "wallet_address": wallet_address, "address_prefix": address_prefix}
    return (await session.execute(_WAIT, given)).scalar_one() or 1


async def add(session: Session, challenge: Challenge, address_prefix: str | None) -> None:
    """Keep a challenge."""
    row = {
        "nonce": challenge.nonce,
        "wallet_address": challenge.wallet_address,
        "address_prefix": address_prefix,
        "message": challenge.message,
        "issued_at": challenge.issued_at,
        "expires_at": challenge.expires_at,
    }
    await session.execute(_INSERT, row)


async def open_nonces(session: Session, wallet_address: str) -> list[str]:
    """The nonces of the open challenges of a wallet, two at the most."""
    found = await session.execute(_OPEN, {"wallet_address": wallet_address})
    return list(found.scalars())


async def consume(session: Session, nonce: str, wallet_address: str) -> str | None:
    """Use a nonce up; the message that it belongs to, or None if it is not good.

    One conditional update: of any number of attempts on any number of replicas, one gets it.
    """
    given = {"nonce": nonce, "wallet_address": wallet_address}
    return (await session.execute(_CONSUME, given)).scalar_one_or_none()


async def find(session: Session, nonce: str) -> Any | None:
    """`wallet_address`, `used` and `expired` of a challenge."""
    return (await session.execute(_FIND, {"nonce": nonce})).one_or_none()


async def database_time(session: Session) -> datetime:
    """The clock that all replicas share."""
    now: datetime = (await session.execute(text("select now()"))).scalar_one()
    return now
