"""Which image belongs to whom: each hash has one meme, the first that claimed it."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import text

from memepool_common.db import Session

# In order, so that two claims of the same hashes wait for each other and never in a circle.
_CLAIM = text(
    "insert into image_hash (sha256, content_id)"
    " select sha256, :content_id from unnest(cast(:hashes as text[])) as sha256 order by sha256"
    " on conflict do nothing returning sha256"
)
_UNDO = text("delete from image_hash where sha256 = any(:hashes)")
_HOLDERS = text("select distinct content_id from image_hash where sha256 = any(:hashes)")
_RELEASE_SOME = text(
    "delete from image_hash where content_id = :content_id and sha256 = any(:hashes)"
    " and not exists (select 1 from variant"
    "   where variant.content_id = :content_id and variant.sha256 = image_hash.sha256)"
)
_RELEASE = text("delete from image_hash where content_id = :content_id")


async def claim(session: Session, content_id: UUID, hashes: Iterable[str]) -> UUID | None:
    """Claim hashes for a meme. If another one holds any of them, returns it and claims nothing."""
    wanted = sorted(set(hashes))
    rows = await session.execute(_CLAIM, {"content_id": content_id, "hashes": wanted})
    fresh = list(rows.scalars())
    holders = (await session.execute(_HOLDERS, {"hashes": wanted})).scalars()
    other = next((holder for holder in sorted(holders) if holder != content_id), None)
    if other is not None:
        await session.execute(_UNDO, {"hashes": fresh})
    return other


async def unclaim(session: Session, content_id: UUID, hashes: Iterable[str]) -> None:
    """Take back a claim of this very transaction: it was for an image that is not new after all.

    Hashes of the meme's earlier images that are among them stay known by their own claim.
    """
    await session.execute(_RELEASE_SOME, {"content_id": content_id, "hashes": sorted(set(hashes))})


async def release(session: Session, content_id: UUID) -> None:
    """Give up a meme's claims: it was never shown."""
    await session.execute(_RELEASE, {"content_id": content_id})
