"""The reverse proxy: requests and answers stream through, nothing is held in memory."""

from memepool_gateway.proxy.app import Proxy
from memepool_gateway.proxy.upstream import Upstream

__all__ = ["Proxy", "Upstream"]
