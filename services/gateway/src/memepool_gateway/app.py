"""The gateway's API process: the proxy, and the few paths that it answers itself."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from memepool_common.web.app import Lifespan, Probes, build_app, internal_app
from memepool_common.web.lifespan import following_auth
from memepool_common.web.middleware import RequestContext
from memepool_gateway import worker
from memepool_gateway.cache import CacheStore, MemoryStore, ReadCache
from memepool_gateway.cache.redis_store import RedisStore
from memepool_gateway.cors import Cors
from memepool_gateway.docs.api import FILES, docs_router
from memepool_gateway.limits import Gate, MemoryCounter, RateCounter
from memepool_gateway.limits.redis_counter import RedisCounter
from memepool_gateway.proxy import Proxy, Upstream
from memepool_gateway.redis_client import RedisClient
from memepool_gateway.routes import UPLOADS, route_table, without_version
from memepool_gateway.settings import Settings
from memepool_gateway.stream import MemoryStream, RedisStream, StreamStore
from memepool_gateway.stream.api import stream_router
from memepool_gateway.stream.hub import Hub

SERVICE = "gateway"
OWN_PATHS = frozenset({"/", "/events", *FILES})


def create_apps(
    settings: Settings, probes: Probes, stream: StreamStore | None = None
) -> tuple[ASGIApp, FastAPI]:
    """The public and the internal application.

    Args:
        settings: the gateway's.
        probes: the process's.
        stream: what `worker.run` writes to, in one-process mode. Else it is in Redis, where the
            worker's process writes it. Without Redis either, this process keeps the stream in its
            memory and writes it itself, so there may be one; and without `settings.bus` nothing
            ever comes on `GET /events`.
    """
    upstreams = {
        name: Upstream(name, url, settings.upstreams)
        for name, url in settings.upstreams.urls().items()
    }
    # Uploads come as slowly as their clients: they shall hold no connection that readers need.
    upstreams[UPLOADS] = Upstream("content", settings.upstreams.content, settings.upstreams)
    proxy = Proxy(route_table(settings.limits), settings.limits, settings.edge)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            tokens = await stack.enter_async_context(following_auth(settings.authn, probes))
            for upstream in upstreams.values():
                await upstream.open()
                stack.push_async_callback(upstream.close)
            counter, kept = _shared(settings, stack)
            gate = Gate(settings.rates, counter)
            store = await _stream(settings, stream, stack)
            hub = Hub(store, settings.stream, tokens, probes)
            await stack.enter_async_context(hub.running())
            proxy.tokens, proxy.gate, proxy.upstreams = tokens, gate, upstreams
            proxy.cache = ReadCache(kept, settings.limits.cache_life_s)
            app.state.tokens, app.state.gate, app.state.hub = tokens, gate, hub
            yield

    own = own_app(settings, lifespan)
    public = _Edge(own, RequestContext(proxy, SERVICE))
    return Cors(public, settings.edge.origins), internal_app(probes)


def _shared(settings: Settings, stack: contextlib.AsyncExitStack) -> tuple[RateCounter, CacheStore]:
    """What replicas share, if there are any."""
    if settings.redis is None:
        return MemoryCounter(), MemoryStore()
    redis = RedisClient(settings.redis)
    stack.push_async_callback(redis.close)
    return RedisCounter(redis), RedisStore(redis)


async def _stream(
    settings: Settings, given: StreamStore | None, stack: contextlib.AsyncExitStack
) -> StreamStore:
    if given is not None:
        return given
    if settings.redis is not None:
        shared = RedisStream(settings.redis, settings.stream)
        stack.push_async_callback(shared.close)
        return shared
    own = MemoryStream(settings.stream)
    if settings.bus is not None:
        await stack.enter_async_context(worker.writing(settings, settings.bus, own))
    return own


def own_app(settings: Settings, lifespan: Lifespan) -> FastAPI:
    """What the gateway answers itself: the stream, the document and its page."""
    app = build_app(
        service=SERVICE,
        description="The one door: documents, and the live stream of events",
        settings=settings.http,
        lifespan=lifespan,
        routers=[stream_router(settings), docs_router()],
        errors={},
    )
    # FastAPI's own document would hide that of all services together.
    app.router.routes[:] = [
        route for route in app.router.routes if getattr(route, "path", None) != "/openapi.json"
    ]
    return app


class _Edge:
    """Sends a request to the gateway's own application, or to the proxy."""

    def __init__(self, own: FastAPI, proxied: ASGIApp) -> None:
        self.own = own
        self._proxied = proxied

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.own(scope, receive, send)
            return
        path = without_version(scope["path"])
        if path in OWN_PATHS:
            scope["path"], scope["raw_path"] = path, path.encode()
            await self.own(scope, receive, send)
        else:
            await self._proxied(scope, receive, send)
