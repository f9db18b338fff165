"""Metadata: read, list, change, remove."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from memepool_common.web.deps import (
    TOKEN_OPTIONAL,
    Caller,
    OptionalCaller,
    ReadSessionDep,
    SessionDep,
)
from memepool_common.web.model import (
    PAGE_SIZE_DEFAULT,
    Cursor,
    Limit,
    Page,
    QueryText,
    cut_page,
    decode_cursor,
)
from memepool_content.api.parameters import ContentId
from memepool_content.api.schemas import Content, ContentStatus, ContentUpdate, content_of
from memepool_content.domain.meme import Status, clean_description, clean_tags, clean_title, tag_of
from memepool_content.store import memes as store
from memepool_content.use_cases import memes

router = APIRouter(tags=["content"])


@router.get("/content", summary="List memes, newest first", openapi_extra=TOKEN_OPTIONAL)
async def list_content(  # each filter is a parameter
    caller: OptionalCaller,
    session: ReadSessionDep,
    creator_id: Annotated[UUID | None, Query(alias="creatorId")] = None,
    status: ContentStatus | None = None,
    tag: Annotated[QueryText | None, Query(max_length=64)] = None,
    limit: Limit = PAGE_SIZE_DEFAULT,
    cursor: Cursor = None,
) -> Page[Content]:
    """Everybody sees what is ready; creators also see their own in every other status."""
    viewer_id = caller.user_id if caller else None
    found = await store.page(
        session,
        viewer_id=viewer_id,
        sees_all=caller is not None and caller.role == "admin",
        creator_id=creator_id,
        status=Status(status.value) if status else None,
        tag=tag_of(tag) if tag is not None else None,
        before=decode_cursor(cursor, UUID)[0] if cursor is not None else None,
        limit=limit + 1,
    )
    shown, more = cut_page(found, limit, lambda meme: (meme.id,))
    return Page(items=[content_of(meme, viewer_id) for meme in shown], next_cursor=more)


@router.get("/content/{contentId}", summary="One meme", openapi_extra=TOKEN_OPTIONAL)
async def read_content(
    content_id: ContentId, caller: OptionalCaller, session: ReadSessionDep
) -> Content:
    """While it is processed, and when it was rejected, only its creator sees it."""
    viewer_id = caller.user_id if caller else None
    admin = caller is not None and caller.role == "admin"
    meme = await memes.visible(session, content_id, viewer_id, admin=admin)
    return content_of(meme, viewer_id)


@router.put("/content/{contentId}", summary="Change title, description or tags")
async def update_content(
    content_id: ContentId, update: ContentUpdate, caller: Caller, session: SessionDep
) -> Content:
    """An absent field stays as it is, null clears it."""
    changes: dict[str, object] = {}
    if "title" in update.model_fields_set:
        changes["title"] = clean_title(update.title)
    if "description" in update.model_fields_set:
        changes["description"] = clean_description(update.description)
    if "tags" in update.model_fields_set:
        changes["tags"] = clean_tags(update.tags or ())
    now = datetime.now(UTC)
    meme = await memes.change(session, content_id, caller.user_id, changes, now)
    return content_of(meme, caller.user_id)


@router.delete("/content/{contentId}", status_code=204, summary="Remove a meme for good")
async def delete_content(content_id: ContentId, caller: Caller, session: SessionDep) -> None:
    """By its creator or an admin. The same image cannot be uploaded again."""
    admin = caller.role == "admin"
    now = datetime.now(UTC)
    await memes.remove(session, content_id, caller.user_id, admin=admin, now=now)
