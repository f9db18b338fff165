"""Chain, blocks and headers."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memepool_sandbox.chain.branches import Entry, UnknownBlockError
from memepool_sandbox.chain.node import Node
from memepool_sandbox.whatsonchain.answers import (
    Refusal,
    answer,
    descending,
    empty,
    query_int,
    text,
)
from memepool_sandbox.whatsonchain.shapes import (
    block_json,
    difficulty,
    header_json,
    page_txids,
    work_hex,
)

_HEADERS_SHOWN = 10
_HEADERS_MAX = 20
_FILE_HEADERS = 10_000
_HASH_LENGTH = 64
_HEIGHT_DIGITS_MAX = 10


class BlockRoutes:
    """Everything under /chain, /block and /blocks."""

    def __init__(self, node: Node, network_path: str, prefix: str) -> None:
        self._node = node
        self._branches = node.branches
        self._network_path = network_path
        self._prefix = prefix

    def routes(self) -> list[Route]:
        """The routes, without the network's prefix."""
        return [
            Route("/woc", self.health),
            Route("/chain/info", self.chain_info),
            Route("/chain/tips", self.chain_tips),
            Route("/block/height/{height}", self.block_at_height),
            Route("/block/hash/{hash}", self.block_by_hash),
            Route("/block/hash/{hash}/page/{page:int}", self.block_page),
            Route("/block/headers", self.headers),
            Route("/block/headers/resources", self.header_files),
            Route("/block/headers/latest", self.latest_header_bytes),
            Route("/block/headers/{first:int}_{last:int}_headers.bin", self.header_file),
            Route("/block/{height_or_hash}/header", self.header),
            Route("/blocks/{height:int}/{count:int}/header", self.header_range),
        ]

    async def health(self, _request: Request) -> Response:
        return text("Whats On Chain")

    async def chain_info(self, _request: Request) -> Response:
        tip = self._branches.tip
        return answer(
            {
                "chain": self._network_path,
                "blocks": tip.height,
                "headers": tip.height,
                "bestblockhash": tip.block.hash,
                "difficulty": difficulty(tip.block.header.bits),
                "mediantime": self._branches.median_time_s(tip),
                "verificationprogress": 1,
                "pruned": False,
                "chainwork": work_hex(tip.chainwork),
            }
        )

    async def chain_tips(self, _request: Request) -> Response:
        branches = self._branches
        return answer(
            [
                {
                    "height": leaf.height,
                    "hash": leaf.block.hash,
                    "branchlen": leaf.height - branches.fork_height(leaf),
                    "status": "active" if branches.is_active(leaf) else "valid-fork",
                }
                for leaf in branches.leaves()
            ]
        )

    async def block_at_height(self, request: Request) -> Response:
        return answer(block_json(self._node, self._at(request.path_params["height"])))

    async def block_by_hash(self, request: Request) -> Response:
        return answer(block_json(self._node, self._by_hash(request.path_params["hash"])))

    async def block_page(self, request: Request) -> Response:
        entry = self._by_hash(request.path_params["hash"])
        txids = page_txids(entry, request.path_params["page"])
        return answer(txids) if txids else empty(404)

    async def header(self, request: Request) -> Response:
        wanted: str = request.path_params["height_or_hash"]
        entry = self._by_hash(wanted) if len(wanted) == _HASH_LENGTH else self._at(wanted)
        shown = header_json(self._branches, entry)
        if request.query_params.get("format") == "block-headers-client":
            shown["status"] = "active" if self._branches.is_active(entry) else "orphaned"
        return answer(shown)

    async def headers(self, request: Request) -> Response:
        limit = query_int(request, "limit", _HEADERS_SHOWN, 1, _HEADERS_MAX)
        newest_first = descending(request)
        wanted = request.query_params.get("hash")
        entry = self._by_hash(wanted) if wanted else self._branches.tip
        walk = self._back(entry, limit) if newest_first else self._forward(entry, limit)
        return answer([header_json(self._branches, each) for each in walk])

    async def header_range(self, request: Request) -> Response:
        height, count = request.path_params["height"], request.path_params["count"]
        if not 1 <= count <= _HEADERS_MAX:
            raise Refusal(400, {"error": "count can't be less than 1 or greater than 20"})
        if height > self._branches.tip.height:
            raise Refusal(404, "Block not found")
        newest_first = descending(request, "asc")
        entry = self._branches.at(height)
        walk = self._back(entry, count) if newest_first else self._forward(entry, count)
        return answer([header_json(self._branches, each) for each in walk])

    async def header_files(self, request: Request) -> Response:
        base = f"{request.url.scheme}://{request.url.netloc}{self._prefix}/block/headers"
        full = range(0, self._branches.tip.height - _FILE_HEADERS + 1, _FILE_HEADERS)
        files = [f"{base}/{first}_{first + _FILE_HEADERS}_headers.bin" for first in full]
        return answer({"files": [*files, f"{base}/latest"]})

    async def header_file(self, request: Request) -> Response:
        first, last = request.path_params["first"], request.path_params["last"]
        if last - first != _FILE_HEADERS or last > self._branches.tip.height + 1:
            return empty(404)
        return self._header_bytes(range(first, last))

    async def latest_header_bytes(self, request: Request) -> Response:
        count = query_int(request, "count", _HEADERS_SHOWN, 1, _FILE_HEADERS)
        tip = self._branches.tip.height
        return self._header_bytes(range(max(0, tip + 1 - count), tip + 1))

    def _header_bytes(self, heights: range) -> Response:
        raw = b"".join(self._branches.at(height).block.header.serialize() for height in heights)
        return Response(raw, media_type="application/octet-stream")

    def _at(self, height: str) -> Entry:
        if not height.isascii() or not height.isdigit() or len(height) > _HEIGHT_DIGITS_MAX:
            raise Refusal(400, "invalid block height")
        try:
            return self._branches.at(int(height))
        except UnknownBlockError:
            raise Refusal(404) from None

    def _by_hash(self, block_hash: str) -> Entry:
        try:
            return self._branches.entry(block_hash.lower())
        except UnknownBlockError:
            raise Refusal(400) from None

    def _back(self, entry: Entry, count: int) -> list[Entry]:
        walk = [entry]
        while len(walk) < count and entry.height > 0:
            entry = self._branches.entry(entry.block.header.prev_hash)
            walk.append(entry)
        return walk

    def _forward(self, entry: Entry, count: int) -> list[Entry]:
        if not self._branches.is_active(entry):
            return [entry]
        last = min(self._branches.tip.height, entry.height + count - 1)
        return [self._branches.at(height) for height in range(entry.height, last + 1)]
