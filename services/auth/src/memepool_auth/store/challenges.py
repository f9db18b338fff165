"""Challenges: bounded in number, each used once.

Where a wallet or the whole has too many, the oldest give way: so nobody who asks for many keeps
an owner from getting one.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import text

from memepool_auth.domain.challenge import PURPOSE, Challenge
from memepool_common.db import Session

# The rows looked at never exceed the limit, so a flood does not make counting slow.
_OF_NETWORK = text("""
select count(*) as taken,
  greatest(1, ceil(extract(epoch from min(expires_at) - now())))::int as wait_s
from (select expires_at from challenge
  where address_prefix is not distinct from :address_prefix and expires_at > now()
  order by expires_at limit :limit) c
""")
_DROP_OLDEST_OF_WALLET = text("""
delete from challenge where nonce in (
  select nonce from challenge
  where wallet_address = :wallet_address and address_prefix is not distinct from :address_prefix
    and used_at is null and expires_at > now()
  order by issued_at desc, nonce offset :kept for update skip locked)
""")
_TOTAL = text("""
select count(*) from (select from challenge where expires_at > now() limit :limit) c
""")
_DROP_OLDEST = text("""
delete from challenge where nonce in (
  select nonce from challenge where expires_at > now()
  order by expires_at limit :count for update skip locked)
""")
_INSERT = text("""
insert into challenge (nonce, wallet_address, address_prefix, domain, purpose, message, issued_at,
  expires_at)
values (:nonce, :wallet_address, :address_prefix, :domain, :purpose, :message, :issued_at,
  :expires_at)
""")
_OPEN = text("""
select nonce from challenge
where wallet_address = :wallet_address and domain = :domain and purpose = :purpose
  and used_at is null and expires_at > now() limit 2
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


async def of_network(session: Session, address_prefix: str | None, limit: int) -> tuple[int, int]:
    """How many unexpired ones a network has, up to `limit`; seconds until the oldest expires."""
    given = {"address_prefix": address_prefix, "limit": limit}
    row = (await session.execute(_OF_NETWORK, given)).one()
    return row.taken, row.wait_s


async def drop_oldest_of_wallet(
    session: Session, wallet_address: str, address_prefix: str | None, kept: int
) -> None:
    """Forget a wallet's open challenges from this network, but for the newest `kept`."""
    given = {"wallet_address": wallet_address, "address_prefix": address_prefix, "kept": kept}
    await session.execute(_DROP_OLDEST_OF_WALLET, given)


async def total(session: Session, limit: int) -> int:
    """How many unexpired ones there are, up to `limit`."""
    count: int = (await session.execute(_TOTAL, {"limit": limit})).scalar_one()
    return count


async def drop_oldest(session: Session, count: int) -> None:
    """Forget the oldest ones of all."""
    await session.execute(_DROP_OLDEST, {"count": count})


async def add(session: Session, challenge: Challenge, address_prefix: str | None) -> None:
    """Keep a challenge."""
    row = {
        "nonce": challenge.nonce,
        "wallet_address": challenge.wallet_address,
        "address_prefix": address_prefix,
        "domain": challenge.domain,
        "purpose": PURPOSE,
        "message": challenge.message,
        "issued_at": challenge.issued_at,
        "expires_at": challenge.expires_at,
    }
    await session.execute(_INSERT, row)


async def open_nonces(session: Session, wallet_address: str, domain: str) -> list[str]:
    """The nonces of the open challenges of a wallet, two at the most."""
    given = {"wallet_address": wallet_address, "domain": domain, "purpose": PURPOSE}
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
