"""Failed attempts to sign in, counted per wallet and address, per wallet, and per address.

The counters lie in the database, so that all replicas share them.
"""

from datetime import timedelta

from sqlalchemy import text

from memepool_common.db import Session

_WAIT = text("""
select greatest(1, ceil(extract(epoch from max(blocked_until) - now())))::int
from sign_in_failure where scope = any(:scopes) and blocked_until > now() having count(*) > 0
""")
_COUNT = text("""
insert into sign_in_failure as f (scope, failures, last_failed_at) values (:scope, 1, now())
on conflict (scope) do update set last_failed_at = now(),
  failures = case when f.last_failed_at < now() - :forgotten_after then 1 else f.failures + 1 end
returning failures
""")
_BLOCK = text("""
update sign_in_failure set blocked_until = now() + :wait where scope = :scope
""")
_FORGET = text("delete from sign_in_failure where scope = :scope")


def wallet_from(wallet_address: str, address_key: str) -> str:
    """The scope of a wallet as seen from one address."""
    return f"wallet {wallet_address} from {address_key}"


def wallet_anywhere(wallet_address: str) -> str:
    """The scope of a wallet, wherever attempts come from."""
    return f"wallet {wallet_address}"


def address(address_key: str) -> str:
    """The scope of an address, whatever wallets it tries."""
    return f"address {address_key}"


async def wait_s(session: Session, scopes: list[str]) -> int | None:
    """Seconds until none of these scopes is held off any more; None if none is."""
    waiting: int | None = (await session.execute(_WAIT, {"scopes": scopes})).scalar_one_or_none()
    return waiting


async def count(session: Session, scope: str, forgotten_after: timedelta) -> int:
    """Count a failure; how many there are in a row. The scope's row stays locked."""
    given = {"scope": scope, "forgotten_after": forgotten_after}
    failures: int = (await session.execute(_COUNT, given)).scalar_one()
    return failures


async def hold_off(session: Session, scope: str, wait: timedelta) -> None:
    """Hold a scope off for a while."""
    await session.execute(_BLOCK, {"scope": scope, "wait": wait})


async def forget(session: Session, scope: str) -> None:
    """Begin anew for this scope."""
    await session.execute(_FORGET, {"scope": scope})
