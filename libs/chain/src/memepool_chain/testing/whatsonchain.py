"""For tests: WhatsOnChain's documented answers, and a small HTTP server that gives them."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from memepool_chain.header import Header

# The coinbase of block 575191, as /tx/{txid}/hex answers it.
TX_HEX = (
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff1c03d7c608"
    "2f7376706f6f6c2e636f6d2f3edff034600055b8467f0040ffffffff01247e814a000000001976a914492558fb8c"
    "a71a3591316d095afc0f20ef7d42f788ac00000000"
)
TXID = "c1d32f28baa27a376ba977f6a8de6ce0a87041157cef0274b20bfda2b0d8df96"
OTHER_TXID = "7e0ba1980522125f1f40d19a249ab3ae036001b991776813d25aebe08e8b8a50"
BLOCK_HASH = "0000000000000000091216c46973d82db057a6f9911352892b7769ed517681c3"
HEADER_HASH = "000000000003ba27aa200b1cecaad478d2b00432346c3f1f3986da1afd33e506"
HEADER_JSON: dict[str, Any] = {
    "hash": HEADER_HASH,
    "confirmations": 1,
    "size": 957,
    "height": 100_000,
    "version": 1,
    "versionHex": "00000001",
    "merkleroot": "f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766",
    "time": 1_293_623_863,
    "mediantime": 1_293_622_620,
    "nonce": 274_148_111,
    "bits": "1b04864c",
    "difficulty": 14484.1623612254,
    "chainwork": "0000000000000000000000000000000000000000000000000644cb7f5234089e",
    "previousblockhash": "000000000002d01c1fccc21636b607dfd930d31d01c3a62104612a1719011250",
    "nextblockhash": "",
    "nTx": 0,
    "num_tx": 4,
}
A, B = "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH", "1F3sAm6ZtwLAUnj7d38pGFxtP3RVEvtsbV"

Reply = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def reply(status: int, body: object, **headers: str) -> bytes:
    """An HTTP answer; bytes go out as they are, all else as JSON with the usual newline."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode() + b"\n"
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


@dataclass
class Request:
    """What the client sent; header names in lower case."""

    target: str
    headers: dict[str, str]
    body: bytes


class Source:
    """A small HTTP server that answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._replies: dict[str, deque[Reply]] = {}

    def on(self, target: str, *replies: Reply) -> None:
        """Answer these in turn; the last one stays. A callable gets the connection to itself."""
        self._replies[target] = deque(replies)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, for `asyncio.start_server`."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().strip().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                target = first.removesuffix(" HTTP/1.1").replace("/v1/bsv/main", "")
                self.requests.append(Request(target, headers, body))
                replies = self._replies[target]
                answer = replies.popleft() if len(replies) > 1 else replies[0]
                if callable(answer):
                    await answer(writer)
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


def header_json(header: Header, height: int, previous: str | None = "its own") -> dict[str, object]:
    """A header as /block/{hash}/header answers it; without a previous one if None or empty."""
    item: dict[str, object] = {
        "hash": header.hash,
        "height": height,
        "version": header.version,
        "merkleroot": header.merkle_root,
        "time": header.time,
        "nonce": header.nonce,
        "bits": f"{header.bits:08x}",
    }
    if previous is not None:
        item["previousblockhash"] = previous and header.prev_hash
    return item


def coins_json(address: str, result: list[dict[str, Any]] | None) -> dict[str, object]:
    """One address of a bulk answer of coins."""
    return {"address": address, "script": "00" * 32, "result": result, "error": ""}
