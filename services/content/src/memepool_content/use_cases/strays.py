"""Objects in the store that no row knows of, after a write that came hours late, say.

Usually there are none: whatever is about to be stored is entered for erasure first. So only what
has lain about for long is looked at, and what is not named as we name things is left alone.
"""

from datetime import datetime, timedelta

from memepool_common.db import Database
from memepool_content.adapters.media_store import MEDIA, UPLOADS, MediaStore, is_ours, owner_of
from memepool_content.store import erasures, memes

AGE_MIN = timedelta(days=7)


async def collect(database: Database, store: MediaStore, now: datetime) -> None:
    """Enter them for erasure."""
    for folder in (UPLOADS, MEDIA):
        async for keys in store.older(folder, now - AGE_MIN):
            ours = [key for key in keys if is_ours(key)]
            owners = sorted({owner for owner in map(owner_of, ours) if owner is not None})
            async with database.transaction() as session:
                for content_id in owners:  # nothing of these is published meanwhile
                    await memes.get(session, content_id, lock=True)
                await erasures.add_strays(session, ours, owners, now)
