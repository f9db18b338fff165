"""Auth's internal port, served by a test issuer."""

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from memepool_common.authstate import SNAPSHOT_PATH
from memepool_common.server import serving
from memepool_common.testing.tokens import TestIssuer


@contextlib.asynccontextmanager
async def stub_auth(issuer: TestIssuer) -> AsyncIterator[str]:
    """Serve the issuer's snapshot on a free port; yields the URL for `AuthnSettings.internal_url`.

    Sessions that the issuer ends show with the next read.
    """

    async def auth_state(request: Request) -> Response:
        headers = {"ETag": issuer.etag}
        if request.headers.get("If-None-Match") == issuer.etag:
            return Response(status_code=304, headers=headers)
        return JSONResponse(issuer.snapshot, headers=headers)

    app = Starlette(routes=[Route(SNAPSHOT_PATH, auth_state)])
    async with serving(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"
