"""The simulated chain's HTTP application: WhatsOnChain's wire format and the control API."""

import time

from pydantic import Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp

from memepool_common.settings import Group
from memepool_common.web.middleware import BodyLimit
from memepool_sandbox.chain.node import Node
from memepool_sandbox.control import ControlRoutes
from memepool_sandbox.faults import FaultInjector, Faults
from memepool_sandbox.whatsonchain.answers import Refusal, empty, on_refusal
from memepool_sandbox.whatsonchain.blocks import BlockRoutes
from memepool_sandbox.whatsonchain.limits import RateLimit
from memepool_sandbox.whatsonchain.scripthashes import ScriptRoutes
from memepool_sandbox.whatsonchain.transactions import TransactionRoutes

_BODY_MARGIN_BYTES = 4096


class ChainSettings(Group):
    """`network_path` is the network's name in URLs; whose blocks they are is the node's matter."""

    network_path: str = "main"
    rate_per_s: int = Field(default=100, ge=1)


def create_chain_app(
    node: Node, settings: ChainSettings | None = None, faults: Faults | None = None
) -> ASGIApp:
    """WhatsOnChain under `/v1/bsv/<network>` and the control API under `/control`.

    Run it in the thread that owns `node`, on one worker, bound to the loopback address.
    """
    settings, faults = settings or ChainSettings(), faults or Faults()
    prefix = f"/v1/bsv/{settings.network_path}"
    routes = [
        *BlockRoutes(node, settings.network_path, prefix).routes(),
        *TransactionRoutes(node).routes(),
        *ScriptRoutes(node).routes(),
    ]
    body_bytes_max = 2 * node.policy.size_bytes_max + _BODY_MARGIN_BYTES  # a transaction in hex
    app = Starlette(
        routes=[*ControlRoutes(node, faults).routes(), Mount(prefix, routes=routes)],
        middleware=[
            Middleware(FaultInjector, faults=faults),
            Middleware(
                RateLimit, rate_per_s=settings.rate_per_s, prefix=prefix, now_s=time.monotonic
            ),
            Middleware(BodyLimit, bytes_max=body_bytes_max, by_path={}),
        ],
        exception_handlers={Refusal: on_refusal, HTTPException: _on_http_exception},
    )
    app.router.redirect_slashes = False
    return app


async def _on_http_exception(_request: Request, error: Exception) -> Response:
    return empty(error.status_code if isinstance(error, HTTPException) else 500)
