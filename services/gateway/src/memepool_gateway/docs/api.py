"""`GET /openapi.json` and `GET /docs`. The page needs nothing from any other host."""

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

MAX_AGE_S = 60
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FILES = {
    "/openapi.json": ("openapi.json", "application/json"),
    "/docs": ("page.html", "text/html; charset=utf-8"),
    "/docs/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/docs/page.css": ("page.css", "text/css; charset=utf-8"),
}


def docs_router() -> APIRouter:
    """The routes. The files are read once, when the application is made."""
    router = APIRouter()
    for path, (name, media_type) in FILES.items():
        content = files(__package__).joinpath(name).read_bytes()
        router.add_api_route(
            path,
            _serving_file(content, media_type),
            methods=["GET", "HEAD"],
            name=name,
            include_in_schema=False,
        )
    router.add_api_route("/", _to_docs, methods=["GET", "HEAD"], include_in_schema=False)
    return router


async def _to_docs() -> Response:
    return RedirectResponse("/docs", 302)


def _serving_file(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "ETag": etag,
        "Cache-Control": f"public, max-age={MAX_AGE_S}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": PAGE_POLICY,
    }

    async def serve(request: Request) -> Response:
        if etag in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return serve
