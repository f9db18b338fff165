"""The API process."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from memepool_common.audit import audit_router
from memepool_common.web.app import Probes, build_app, internal_app
from memepool_common.web.lifespan import api_resources
from memepool_content.adapters.media_store import MediaStore, StoreUnavailableError
from memepool_content.adapters.scratch import DiskUnavailableError, sweep
from memepool_content.api import contents, media, reports, source, transformations, uploads
from memepool_content.api.hot_media import shortcut_to
from memepool_content.api.streams import Streams
from memepool_content.domain import errors
from memepool_content.settings import Settings
from memepool_content.use_cases.media import Media

UPLOAD_OVERHEAD_BYTES = 128 * 1024
"""Fields and multipart headers around the file."""
STATUSES: dict[type[Exception], int] = {
    errors.NotFoundError: 404,
    errors.RemovedError: 410,
    errors.NotOwnerError: 403,
    errors.SuspendedError: 403,
    errors.ForbiddenTransitionError: 409,
    errors.DuplicateError: 409,
    errors.TakenDownError: 409,
    errors.UnsupportedFormatError: 415,
    errors.EmptyFileError: 422,
    errors.InvalidMetadataError: 422,
    errors.FileTooLargeError: 413,
    errors.QuotaError: 429,
    errors.ReportNotFoundError: 404,
    errors.AlreadyDecidedError: 409,
    errors.TransformUnavailableError: 503,
    StoreUnavailableError: 503,
    DiskUnavailableError: 503,
}


def create_apps(settings: Settings, probes: Probes) -> tuple[FastAPI, FastAPI]:
    """The public and the internal application."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweep(settings.uploads.temporary_folder)
        store = MediaStore(settings.store)
        app.state.media_store = store
        app.state.upload_limits = settings.uploads
        app.state.aitubo = settings.aitubo
        app.state.upload_streams = Streams(settings.uploads)
        async with api_resources(app, settings, probes) as database:
            app.state.media = Media(database, store)
            yield

    public = build_app(
        service="content",
        description="Memes: upload, validation, delivery.",
        settings=settings.http,
        lifespan=lifespan,
        routers=[
            media.router,  # routes are tried in order, and most requests are for this one
            audit_router("content"),
            uploads.router,
            reports.router,
            contents.router,
            transformations.router,
            source.router,
        ],
        errors=STATUSES,
        body_limits={"/content/upload": settings.uploads.file_bytes_max + UPLOAD_OVERHEAD_BYTES},
    )
    public.state.media = None
    public.shortcut = shortcut_to(lambda: public.state.media)
    return public, internal_app(probes)
