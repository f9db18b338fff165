"""Client of the WhatsOnChain API: typed answers, none of them trusted.

What can be checked here is: a header's hash is computed from its fields, a raw transaction's id
from its bytes. The rest (is this header's work real, does this proof lead to a root we know, does
this transaction pay us) is the caller's to check with headerstore, merkle and tx.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

from memepool_chain.hashing import display_hex, is_hash_hex, sha256d
from memepool_chain.header import Header, HeaderError
from memepool_chain.tx import SATOSHIS_MAX, TX_SIZE_BYTES_MAX
from memepool_chain.whatsonchain_http import (
    MalformedAnswer,
    NotFound,
    RateLimited,
    Rejected,
    RetryPolicy,
    Transport,
    Unauthorized,
    Unavailable,
    WhatsOnChainError,
    parse_json,
)

__all__ = [
    "ChainInfo",
    "MalformedAnswer",
    "NotFound",
    "Proof",
    "RateLimited",
    "Rejected",
    "RetryPolicy",
    "SourceHeader",
    "Unauthorized",
    "Unavailable",
    "Unspent",
    "WhatsOnChain",
    "WhatsOnChainError",
]

BATCH_MAX: Final = 20
PAGES_MAX: Final = 100
_JSON_SIZE_BYTES_MAX = 1 << 20
_UNSPENT_SIZE_BYTES_MAX = 32 << 20  # up to 100,000 unconfirmed coins in one answer
_UINT32_MAX = 0xFFFF_FFFF
_HEIGHT_MAX = 0x7FFF_FFFF
_NULL_HASH = "00" * 32
# Nodes say so when they have the transaction: the sender's wish is fulfilled.
_ALREADY_KNOWN = (
    "already in the mempool",
    "txn-already-known",
    "txn-already-in-mempool",
    "already in block chain",
)

_T = TypeVar("_T", str, int, list[Any])


@dataclass(frozen=True, slots=True)
class ChainInfo:
    """Where the source says the chain stands."""

    chain: str
    height: int
    best_block_hash: str


@dataclass(frozen=True, slots=True)
class SourceHeader:
    """A header whose hash was computed here; its height is the source's word."""

    header: Header
    height: int


@dataclass(frozen=True, slots=True)
class Proof:
    """A TSC merkle proof: the position in the block, the block, and the nodes upwards."""

    txid: str
    index: int
    block_hash: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unspent:
    """A coin of an address, as the source sees it; `height` is None while unconfirmed."""

    txid: str
    vout: int
    satoshis: int
    height: int | None


class WhatsOnChain:
    """An async context manager, or to be closed with `aclose()`.

    `base_url` ends before the network: https://api.whatsonchain.com/v1/bsv. Every method raises
    WhatsOnChainError (see whatsonchain_http), and ValueError for arguments that are none.
    """

    def __init__(
        self,
        base_url: str,
        network_path: str = "main",
        *,
        api_key: str | None = None,
        rate_per_s: float = 3.0,
        timeout_s: float = 10.0,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 (frozen)
    ) -> None:
        self._http = Transport(
            f"{base_url.rstrip('/')}/{network_path}/",
            api_key=api_key,
            rate_per_s=rate_per_s,
            timeout_s=timeout_s,
            retry=retry,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def chain_info(self) -> ChainInfo:
        """Return the source's tip."""
        answer = await self._get("/chain/info")
        return ChainInfo(
            chain=_field(answer, "chain", str),
            height=_bounded(answer, "blocks", _HEIGHT_MAX),
            best_block_hash=_hash(answer, "bestblockhash"),
        )

    async def header(self, hash_or_height: str | int) -> SourceHeader:
        """Return a header by hash, or the active one at a height; NotFound."""
        if isinstance(hash_or_height, str):
            _check_hashes([hash_or_height])
        found = _source_header(await self._get(f"/block/{hash_or_height}/header"))
        if hash_or_height not in (found.header.hash, found.height):
            raise MalformedAnswer("the answer is another block than the one asked for")
        return found

    async def headers_latest(
        self, *, limit: int = 10, start_hash: str | None = None
    ) -> list[SourceHeader]:
        """Return up to 20 headers downwards, from the latest one or from a known hash."""
        if not 1 <= limit <= BATCH_MAX:
            raise ValueError(f"limit is 1 to {BATCH_MAX}")
        params: dict[str, str | int] = {"limit": limit, "order": "desc"}
        if start_hash is not None:
            _check_hashes([start_hash])
            params["hash"] = start_hash
        answer = await self._get("/block/headers", params=params)
        return [_source_header(item) for item in _items(answer)]

    async def raw_tx(self, txid: str) -> bytes:
        """Return the bytes that hash to this txid; NotFound."""
        _check_hashes([txid])
        body = await self._http.call(
            "GET", f"/tx/{txid}/hex", size_bytes_max=2 * TX_SIZE_BYTES_MAX + 2
        )
        try:
            raw = bytes.fromhex(body.decode("ascii").strip())
        except ValueError:
            raise MalformedAnswer("the transaction is not hexadecimal") from None
        if display_hex(sha256d(raw)) != txid:
            raise MalformedAnswer("the bytes are those of another transaction")
        return raw

    async def tsc_proof(self, txid: str) -> Proof | None:
        """Return the merkle proof of a mined transaction, None while it is not mined."""
        _check_hashes([txid])
        answer = await self._get(f"/tx/{txid}/proof/tsc")
        if not answer:  # null, or an empty list
            return None
        proof = _items(answer)[0]
        if _field(proof, "txOrId", str) != txid:
            raise MalformedAnswer("the proof is of another transaction")
        nodes = _field(proof, "nodes", list)
        if not all(node == "*" or is_hash_hex(node) for node in nodes):
            raise MalformedAnswer("a node of the proof is no hash")
        return Proof(
            txid, _bounded(proof, "index", _UINT32_MAX), _hash(proof, "target"), tuple(nodes)
        )

    async def unspent_all(self, addresses: Sequence[str]) -> dict[str, list[Unspent]]:
        """Return confirmed and unconfirmed coins of up to 20 addresses, each address a key."""
        if not 1 <= len(addresses) <= BATCH_MAX:
            raise ValueError(f"1 to {BATCH_MAX} addresses at a time")
        coins: dict[str, dict[tuple[str, int], Unspent]] = {each: {} for each in addresses}
        # Unconfirmed first: a coin mined between the two calls is then seen twice, not never.
        for kind in ("unconfirmed", "confirmed"):
            answer = await self._post(
                f"/addresses/{kind}/unspent",
                {"addresses": list(addresses)},
                size_bytes_max=_UNSPENT_SIZE_BYTES_MAX,
            )
            for item in _items(answer):
                address = _field(item, "address", str)
                if address not in coins:
                    raise MalformedAnswer("the answer names an address that was not asked for")
                async for coin in self._pages(kind, address, item):
                    coins[address][coin.txid, coin.vout] = coin
        return {address: list(found.values()) for address, found in coins.items()}

    async def _pages(self, kind: str, address: str, first: Any) -> AsyncIterator[Unspent]:
        page = first
        for _ in range(PAGES_MAX):
            for coin in _unspent(page):
                yield coin
            token = page.get("nextPageToken")
            if not token:
                return
            page = await self._get(
                f"/address/{quote(address, safe='')}/{kind}/unspent",
                params={"token": str(token)},
                size_bytes_max=_UNSPENT_SIZE_BYTES_MAX,
            )
        raise MalformedAnswer(f"more than {PAGES_MAX} pages of coins")

    async def broadcast(self, raw: bytes) -> str:
        """Send a transaction and return its txid, also when the nodes know it already.

        The same bytes may be sent again at any time. Rejected carries the node's reason;
        "Missing inputs" alone says nothing: the parent may be late, or this very transaction may
        be mined and spent. Unavailable leaves open whether it was sent.
        """
        txid = display_hex(sha256d(raw))
        try:
            answer = await self._post("/tx/raw", {"txhex": raw.hex()})
        except Rejected as error:
            if any(phrase in error.reason.lower() for phrase in _ALREADY_KNOWN):
                return txid
            raise
        if answer != txid:
            raise MalformedAnswer("the source answered another txid than the one sent")
        return txid

    async def _get(
        self,
        path: str,
        *,
        params: dict[str, str | int] | None = None,
        size_bytes_max: int = _JSON_SIZE_BYTES_MAX,
    ) -> Any:
        return parse_json(
            await self._http.call("GET", path, params=params, size_bytes_max=size_bytes_max)
        )

    async def _post(
        self, path: str, content: object, *, size_bytes_max: int = _JSON_SIZE_BYTES_MAX
    ) -> Any:
        return parse_json(
            await self._http.call("POST", path, content=content, size_bytes_max=size_bytes_max)
        )


def _source_header(item: Any) -> SourceHeader:
    try:
        header = Header.checked(
            version=_field(item, "version", int),
            prev_hash=item.get("previousblockhash") or _NULL_HASH,
            merkle_root=_hash(item, "merkleroot"),
            time=_field(item, "time", int),
            bits=int(_field(item, "bits", str), 16),
            nonce=_field(item, "nonce", int),
        )
    except (HeaderError, ValueError) as error:
        raise MalformedAnswer(f"not a header: {error}") from None
    if header.hash != _hash(item, "hash"):
        raise MalformedAnswer("the hash is not that of the header's fields")
    return SourceHeader(header, _bounded(item, "height", _HEIGHT_MAX))


def _unspent(page: Any) -> list[Unspent]:
    if not isinstance(page, dict):
        raise MalformedAnswer("a page of coins is not an object")
    if page.get("error"):
        raise Rejected(str(page["error"]))
    if page.get("result") is None:
        return []
    return [
        Unspent(
            txid=_hash(item, "tx_hash"),
            vout=_bounded(item, "tx_pos", _UINT32_MAX),
            satoshis=_bounded(item, "value", SATOSHIS_MAX),
            height=_bounded(item, "height", _HEIGHT_MAX) if item.get("height") else None,
        )
        for item in _field(page, "result", list)
    ]


def _items(answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        raise MalformedAnswer("the answer is not a list")
    return answer


def _field(item: Any, name: str, kind: type[_T]) -> _T:
    value = item.get(name) if isinstance(item, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise MalformedAnswer(f"{name} is missing or not of the right type")
    return value


def _bounded(item: Any, name: str, value_max: int) -> int:
    value = _field(item, name, int)
    if not 0 <= value <= value_max:
        raise MalformedAnswer(f"{name} is outside 0 to {value_max}")
    return value


def _hash(item: Any, name: str) -> str:
    value = _field(item, name, str)
    if not is_hash_hex(value):
        raise MalformedAnswer(f"{name} is no hash")
    return value


def _check_hashes(values: Sequence[str]) -> None:
    if not all(is_hash_hex(value) for value in values):
        raise ValueError("a hash is 64 lowercase hexadecimal digits")
