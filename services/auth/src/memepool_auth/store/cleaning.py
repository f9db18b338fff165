"""Deleting what nobody can ask for any more, a bounded number of rows at a time."""

from sqlalchemy import text

from memepool_common.db import Session

ROWS_MAX = 5_000

# What has run out is kept a little, so that a late client learns that it ran out.
_CHALLENGES = text("""
delete from challenge where nonce in (
  select nonce from challenge where expires_at < now() - interval '10 minutes'
  order by expires_at limit :rows_max)
""")
_GRANTS = text("""
delete from sign_in_grant where grant_hash in (
  select grant_hash from sign_in_grant where expires_at < now() - interval '10 minutes'
  order by expires_at limit :rows_max)
""")
_SESSIONS = text("""
delete from session where id in (
  select id from session
  where expires_at < now() - interval '7 days' and tokens_expire_at < now() - interval '7 days'
  order by expires_at limit :rows_max)
""")
_KEYS = text("""
delete from signing_key where kid in (
  select kid from signing_key where published_until < now() - interval '7 days'
  order by published_until limit :rows_max)
""")
_FAILURES = text("""
delete from sign_in_failure where scope in (
  select scope from sign_in_failure where last_failed_at < now() - interval '1 day'
  order by last_failed_at limit :rows_max)
""")


async def delete_expired(session: Session) -> int:
    """Delete what has expired or is forgotten; how many rows (tokens go with their sessions)."""
    deleted = 0
    for statement in (_CHALLENGES, _GRANTS, _SESSIONS, _KEYS, _FAILURES):
        deleted += (await session.execute(statement, {"rows_max": ROWS_MAX})).rowcount
    return deleted
