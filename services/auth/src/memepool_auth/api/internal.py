"""The internal port: what every process reads of auth."""

from fastapi import APIRouter, Request, Response

from memepool_auth.use_cases.auth_state import AuthState
from memepool_common.authstate import SNAPSHOT_PATH

router = APIRouter()


@router.get(SNAPSHOT_PATH)
async def read_auth_state(request: Request) -> Response:
    """Keys and ended sessions; 304 to who has them already, 503 until we have started."""
    state: AuthState | None = getattr(request.app.state, "auth_state", None)
    if state is None:
        return Response(status_code=503, headers={"Retry-After": "1"})
    snapshot = await state.snapshot()
    headers = {"ETag": snapshot.etag, "Cache-Control": "no-cache"}
    if request.headers.get("If-None-Match") == snapshot.etag:
        return Response(status_code=304, headers=headers)
    return Response(snapshot.body, headers=headers, media_type="application/json")
