"""The WhatsOnChain client against real HTTP: the source's documented answers, and its bad days."""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from memepool_chain.checkpoint import fetch_checkpoint
from memepool_chain.header import Header
from memepool_chain.merkle import root_from_tsc
from memepool_chain.network import REGTEST
from memepool_chain.testing import genesis, grow
from memepool_chain.whatsonchain import (
    MalformedAnswer,
    NotFound,
    RateLimited,
    Rejected,
    RetryPolicy,
    Unauthorized,
    Unavailable,
    WhatsOnChain,
)

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
HEADER: dict[str, Any] = {
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
    target: str
    headers: dict[str, str]
    body: bytes


class Source:
    """A small HTTP server that answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._replies: dict[str, deque[Reply]] = {}

    def on(self, target: str, *replies: Reply) -> None:
        """Answer these in turn; the last one stays."""
        self._replies[target] = deque(replies)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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


@pytest_asyncio.fixture
async def source() -> AsyncIterator[Source]:
    yield Source()


@pytest_asyncio.fixture
async def base_url(source: Source) -> AsyncIterator[str]:
    server = await asyncio.start_server(source.serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/bsv"


@pytest_asyncio.fixture
async def client(base_url: str) -> AsyncIterator[WhatsOnChain]:
    retry = RetryPolicy(attempts=3, wait_initial_s=0.001)
    async with WhatsOnChain(base_url, rate_per_s=10_000, timeout_s=5, retry=retry) as client:
        yield client


class TestAnswers:
    async def test_chain_info(self, source: Source, client: WhatsOnChain) -> None:
        info = {"chain": "main", "blocks": 640504, "headers": 640504, "difficulty": 286794300954.83}
        source.on("GET /chain/info", reply(200, info | {"bestblockhash": BLOCK_HASH}))
        answer = await client.chain_info()
        assert (answer.chain, answer.height) == ("main", 640504)
        assert answer.best_block_hash == BLOCK_HASH

    async def test_headers_by_hash_and_height(self, source: Source, client: WhatsOnChain) -> None:
        source.on(f"GET /block/{HEADER_HASH}/header", reply(200, HEADER))
        source.on("GET /block/100000/header", reply(200, HEADER))
        by_hash, by_height = await client.header(HEADER_HASH), await client.header(100_000)
        assert by_hash == by_height
        assert (by_hash.header.hash, by_hash.height) == (HEADER_HASH, 100_000)

    @pytest.mark.parametrize("previous", [None, ""])
    async def test_the_first_block_has_no_previous_one(
        self, source: Source, client: WhatsOnChain, previous: str | None
    ) -> None:
        source.on("GET /block/0/header", reply(200, as_json(genesis(), 0, previous)))
        assert (await client.header(0)).header == genesis()

    async def test_latest_headers(self, source: Source, client: WhatsOnChain) -> None:
        source.on("GET /block/headers?limit=10&order=desc", reply(200, [HEADER]))
        target = f"GET /block/headers?limit=20&order=asc&hash={HEADER_HASH}"
        source.on(target, reply(200, [HEADER, HEADER]))
        assert len(await client.headers_latest()) == 1
        run = await client.headers_latest(limit=20, start_hash=HEADER_HASH, order="asc")
        assert [each.height for each in run] == [100_000] * 2

    async def test_a_raw_transaction(self, source: Source, client: WhatsOnChain) -> None:
        source.on(f"GET /tx/{TXID}/hex", reply(200, TX_HEX.encode(), Content_Type="text/plain"))
        assert (await client.raw_tx(TXID)).hex() == TX_HEX

    async def test_a_proof(self, source: Source, client: WhatsOnChain) -> None:
        nodes = [OTHER_TXID, "1e3a5a8946e0caf07006f6c4f76773d7e474d4f240a276844f866bd09820adb3"]
        proof = {"index": 0, "txOrId": TXID, "target": BLOCK_HASH, "nodes": nodes}
        source.on(f"GET /tx/{TXID}/proof/tsc", reply(200, [proof]))
        answer = await client.tsc_proof(TXID)
        assert answer is not None
        assert answer.block_hash == BLOCK_HASH
        assert (
            root_from_tsc(answer.txid, answer.index, answer.nodes)
            == "95a920b1002bed05379a0d2650bb13eb216138f28ee80172f4cf21048528dc60"
        )

    @pytest.mark.parametrize("body", [None, []])
    async def test_no_proof_yet(
        self, source: Source, client: WhatsOnChain, body: list[object] | None
    ) -> None:
        source.on(f"GET /tx/{TXID}/proof/tsc", reply(200, body))
        assert await client.tsc_proof(TXID) is None

    async def test_coins_of_two_addresses(self, source: Source, client: WhatsOnChain) -> None:
        mined = {"height": 861499, "tx_pos": 1, "tx_hash": TXID, "value": 154}
        seen = {"tx_pos": 0, "tx_hash": OTHER_TXID, "value": 98, "isSpentInMempoolTx": True}
        now_mined = {"tx_pos": 1, "tx_hash": TXID, "value": 154, "isSpentInMempoolTx": False}
        source.on(
            "POST /addresses/unconfirmed/unspent",
            reply(200, [coins(A, [seen, now_mined]), coins(B, None)]),
        )
        source.on(
            "POST /addresses/confirmed/unspent", reply(200, [coins(B, []), coins(A, [mined])])
        )
        answer = await client.unspent_all([A, B])
        assert answer[B] == []
        assert [
            (each.txid, each.vout, each.satoshis, each.height, each.spent_in_mempool)
            for each in answer[A]
        ] == [(OTHER_TXID, 0, 98, None, True), (TXID, 1, 154, 861499, False)]
        assert json.loads(source.requests[0].body) == {"addresses": [A, B]}

    async def test_coins_on_several_pages(self, source: Source, client: WhatsOnChain) -> None:
        pages = [
            coins(A, [{"height": 5, "tx_pos": n, "tx_hash": TXID, "value": n}]) for n in range(3)
        ]
        source.on("POST /addresses/unconfirmed/unspent", reply(200, []))
        source.on(
            "POST /addresses/confirmed/unspent",
            reply(200, [pages[0] | {"nextPageToken": "t/1"}]),
        )
        target = f"GET /address/{A}/confirmed/unspent?token="
        source.on(target + "t%2F1", reply(200, pages[1] | {"nextPageToken": "t2"}))
        source.on(target + "t2", reply(200, pages[2] | {"nextPageToken": ""}))
        assert [each.vout for each in (await client.unspent_all([A]))[A]] == [0, 1, 2]

    async def test_status(self, source: Source, client: WhatsOnChain) -> None:
        third = "ab" * 32
        mined = {"txid": TXID, "blockhash": BLOCK_HASH, "blockheight": 575191, "confirmations": 9}
        source.on(
            "POST /txs/status",
            reply(200, [{"txid": OTHER_TXID}, {"txid": third, "error": "unknown"}, mined]),
        )
        answer = await client.tx_status([TXID, OTHER_TXID, third])
        assert (answer[TXID].block_hash, answer[TXID].block_height) == (BLOCK_HASH, 575191)
        assert [answer[each].known for each in (TXID, OTHER_TXID, third)] == [True, True, False]

    async def test_broadcast(self, source: Source, client: WhatsOnChain) -> None:
        source.on("POST /tx/raw", reply(200, TXID))
        assert await client.broadcast(bytes.fromhex(TX_HEX)) == TXID
        assert json.loads(source.requests[0].body) == {"txhex": TX_HEX}

    @pytest.mark.parametrize(
        "message",
        [
            "unexpected response code 500: Transaction already in the mempool",
            "unexpected response code 500: 257: txn-already-known",
            "txn-already-in-mempool",
        ],
    )
    async def test_what_is_there_already_is_a_success(
        self, source: Source, client: WhatsOnChain, message: str
    ) -> None:
        source.on("POST /tx/raw", reply(400, message))
        assert await client.broadcast(bytes.fromhex(TX_HEX)) == TXID

    async def test_a_checkpoint(self, source: Source, client: WhatsOnChain) -> None:
        line = [genesis(), *grow(genesis(), 14)]
        for height, header in enumerate(line):
            source.on(f"GET /block/{header.hash}/header", reply(200, as_json(header, height)))
        found = await fetch_checkpoint(client, REGTEST, height=14, block_hash=line[-1].hash)
        assert found.headers == tuple(line[-11:])
        first = await fetch_checkpoint(client, REGTEST, height=1, block_hash=line[1].hash)
        assert first.headers == tuple(line[:2])

    async def test_the_key_travels(self, source: Source, base_url: str) -> None:
        source.on("POST /tx/raw", reply(200, TXID))
        async with WhatsOnChain(base_url, api_key="mainnet_key") as client:
            await client.broadcast(bytes.fromhex(TX_HEX))
        assert source.requests[0].headers["authorization"] == "mainnet_key"
        assert source.requests[0].headers["accept-encoding"] == "identity"


def as_json(header: Header, height: int, previous: str | None = "its own") -> dict[str, object]:
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


def coins(address: str, result: list[dict[str, Any]] | None) -> dict[str, object]:
    return {"address": address, "script": "00" * 32, "result": result, "error": ""}


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "body", "error"),
        [
            (404, b"", NotFound),
            (404, b'"Block not found"\n', NotFound),
            (400, b"", NotFound),
            (400, b'"unexpected response code 500: 258: txn-mempool-conflict"\n', Rejected),
            (400, b"plain text", Rejected),
            (400, b'{"error":"limit can\'t be less than 1 or greater than 20"}', Rejected),
            (401, b'"Invalid APIKey"\n', Unauthorized),
            (403, b"", Unauthorized),
            (418, b"", MalformedAnswer),
            (302, b"", MalformedAnswer),
        ],
    )
    async def test_final_answers_are_not_asked_for_again(
        self,
        source: Source,
        client: WhatsOnChain,
        status: int,
        body: bytes,
        error: type[Exception],
    ) -> None:
        source.on("GET /chain/info", reply(status, body, Location="/elsewhere"))
        with pytest.raises(error):
            await client.chain_info()
        assert len(source.requests) == 1

    async def test_the_nodes_reason_is_kept(self, source: Source, client: WhatsOnChain) -> None:
        source.on("POST /tx/raw", reply(400, "unexpected response code 500: Missing inputs"))
        with pytest.raises(Rejected) as caught:
            await client.broadcast(bytes.fromhex(TX_HEX))
        assert caught.value.reason == "unexpected response code 500: Missing inputs"

    async def test_a_retry_after_of_1970_is_ignored(
        self, source: Source, client: WhatsOnChain
    ) -> None:
        busy = reply(429, "Too Many Requests", Retry_After="Thu, 01 Jan 1970 00:00:01 GMT")
        source.on("POST /tx/raw", busy, busy, reply(200, TXID))
        assert await client.broadcast(bytes.fromhex(TX_HEX)) == TXID
        assert len(source.requests) == 3

    @pytest.mark.parametrize(
        ("status", "error"), [(429, RateLimited), (500, Unavailable), (502, Unavailable)]
    )
    async def test_retries_end(
        self, source: Source, client: WhatsOnChain, status: int, error: type[Exception]
    ) -> None:
        source.on("GET /chain/info", reply(status, b""))
        with pytest.raises(error):
            await client.chain_info()
        assert len(source.requests) == 3

    async def test_a_source_that_hangs_up(self, source: Source, client: WhatsOnChain) -> None:
        async def hang_up(_: asyncio.StreamWriter) -> None:
            return

        source.on("GET /chain/info", hang_up)
        with pytest.raises(Unavailable):
            await client.chain_info()

    async def test_a_source_that_is_not_there(self, base_url: str) -> None:
        nowhere = base_url.replace("127.0.0.1", "127.0.0.1").rsplit(":", 1)[0] + ":1/v1/bsv"
        retry = RetryPolicy(attempts=2, wait_initial_s=0.001)
        async with WhatsOnChain(nowhere, rate_per_s=1_000, retry=retry) as client:
            with pytest.raises(Unavailable):
                await client.chain_info()

    @pytest.mark.parametrize("drip", [False, True])
    async def test_a_slow_source(self, source: Source, base_url: str, drip: bool) -> None:
        async def slow(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not writer.is_closing():
                if drip:  # every read comes in time, the whole never does
                    writer.write(b" ")
                    await writer.drain()
                await asyncio.sleep(0.01)

        source.on("GET /chain/info", slow)
        retry = RetryPolicy(attempts=1)
        async with WhatsOnChain(base_url, timeout_s=0.2, retry=retry) as client:
            with pytest.raises(Unavailable, match=r"0\.2 s"):
                await client.chain_info()


class TestNothingIsTrusted:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>busy</html>",
            b"\xff\xfe",
            b"[" * 500_000,
            b'{"chain": NaN}',
            b"null",
            b"[]",
            b'"main"',
            b'{"chain":"main","blocks":true,"bestblockhash":"' + b"00" * 32 + b'"}',
            b'{"chain":"main","blocks":-1,"bestblockhash":"' + b"00" * 32 + b'"}',
            b'{"chain":"main","blocks":1,"bestblockhash":"00"}',
            b'{"chain":5,"blocks":1,"bestblockhash":"' + b"00" * 32 + b'"}',
            b'{"blocks":' + b"9" * 5_000 + b"}",
        ],
    )
    async def test_garbage(self, source: Source, client: WhatsOnChain, body: bytes) -> None:
        source.on("GET /chain/info", reply(200, body))
        with pytest.raises(MalformedAnswer):
            await client.chain_info()

    async def test_too_much(self, source: Source, client: WhatsOnChain) -> None:
        source.on("GET /chain/info", reply(200, b" " * ((1 << 20) + 1)))
        with pytest.raises(MalformedAnswer, match="larger"):
            await client.chain_info()

    async def test_compressed_without_being_asked(
        self, source: Source, client: WhatsOnChain
    ) -> None:
        source.on("GET /chain/info", reply(200, b"\x1f\x8b", Content_Encoding="gzip"))
        with pytest.raises(MalformedAnswer, match="compressed"):
            await client.chain_info()

    @pytest.mark.parametrize(
        "change",
        [
            {"nonce": 1},
            {"hash": BLOCK_HASH},
            {"hash": None},
            {"bits": "zz"},
            {"bits": 453_281_356},
            {"version": 1 << 40},
            {"time": "1293623863"},
            {"previousblockhash": 5},
            {"previousblockhash": ""},
            {"height": -1},
            {"height": 1 << 40},
        ],
    )
    async def test_a_header_that_is_none(
        self, source: Source, client: WhatsOnChain, change: dict[str, object]
    ) -> None:
        source.on(f"GET /block/{HEADER_HASH}/header", reply(200, HEADER | change))
        with pytest.raises(MalformedAnswer):
            await client.header(HEADER_HASH)

    async def test_another_header_than_asked(self, source: Source, client: WhatsOnChain) -> None:
        source.on(f"GET /block/{BLOCK_HASH}/header", reply(200, HEADER))
        source.on("GET /block/99999/header", reply(200, HEADER))
        for question in (BLOCK_HASH, 99_999):
            with pytest.raises(MalformedAnswer, match="another block"):
                await client.header(question)

    @pytest.mark.parametrize("body", [b"", b"zz", b"00", TX_HEX.encode()[:-2], b"\xff\xff"])
    async def test_another_transaction(
        self, source: Source, client: WhatsOnChain, body: bytes
    ) -> None:
        source.on(f"GET /tx/{TXID}/hex", reply(200, body))
        with pytest.raises(MalformedAnswer):
            await client.raw_tx(TXID)

    @pytest.mark.parametrize(
        "change",
        [
            {"txOrId": OTHER_TXID},
            {"index": -1},
            {"index": "0"},
            {"target": "x"},
            {"nodes": ["x"]},
            {"nodes": [5]},
            {"nodes": None},
        ],
    )
    async def test_a_proof_that_is_none(
        self, source: Source, client: WhatsOnChain, change: dict[str, object]
    ) -> None:
        proof = {"index": 0, "txOrId": TXID, "target": BLOCK_HASH, "nodes": ["*"]}
        source.on(f"GET /tx/{TXID}/proof/tsc", reply(200, [proof | change]))
        with pytest.raises(MalformedAnswer):
            await client.tsc_proof(TXID)

    @pytest.mark.parametrize(
        "answer",
        [
            {},
            [5],
            [coins(B, [])],
            [coins(A, [{"tx_pos": 0, "tx_hash": TXID, "value": 1.5}])],
            [coins(A, [{"tx_pos": 0, "tx_hash": TXID, "value": -1}])],
            [coins(A, [{"tx_pos": 0, "tx_hash": TXID, "value": 10**17}])],
            [coins(A, [{"tx_pos": 1 << 32, "tx_hash": TXID, "value": 1}])],
            [coins(A, [{"tx_pos": 0, "tx_hash": "x", "value": 1}])],
            [coins(A, [{"tx_pos": 0, "tx_hash": TXID, "value": 1, "height": "5"}])],
            [coins(A, [5])],  # type: ignore[list-item]  # that is the point
            [{"address": A, "result": {}}],
        ],
    )
    async def test_coins_that_are_none(
        self, source: Source, client: WhatsOnChain, answer: object
    ) -> None:
        source.on("POST /addresses/unconfirmed/unspent", reply(200, answer))
        with pytest.raises(MalformedAnswer):
            await client.unspent_all([A])

    async def test_pages_without_end(self, source: Source, client: WhatsOnChain) -> None:
        endless = coins(A, []) | {"nextPageToken": "again"}
        source.on("POST /addresses/unconfirmed/unspent", reply(200, [endless]))
        source.on(f"GET /address/{A}/unconfirmed/unspent?token=again", reply(200, endless))
        with pytest.raises(MalformedAnswer, match="pages"):
            await client.unspent_all([A])

    async def test_an_error_for_one_address(self, source: Source, client: WhatsOnChain) -> None:
        failed = coins(A, []) | {"error": "unable to fetch"}
        source.on("POST /addresses/unconfirmed/unspent", reply(200, [failed]))
        with pytest.raises(Rejected, match="unable to fetch"):
            await client.unspent_all([A])

    @pytest.mark.parametrize(
        "answer", [[], [{"txid": OTHER_TXID}], [5], [{"txid": TXID, "blockhash": BLOCK_HASH}]]
    )
    async def test_status_of_something_else(
        self, source: Source, client: WhatsOnChain, answer: object
    ) -> None:
        source.on("POST /txs/status", reply(200, answer))
        with pytest.raises(MalformedAnswer):
            await client.tx_status([TXID])

    @pytest.mark.parametrize("answer", ["", OTHER_TXID, None, {"txid": TXID}])
    async def test_a_broadcast_that_answers_something_else(
        self, source: Source, client: WhatsOnChain, answer: object
    ) -> None:
        source.on("POST /tx/raw", reply(200, answer))
        with pytest.raises(MalformedAnswer):
            await client.broadcast(bytes.fromhex(TX_HEX))


class TestOurselves:
    async def test_calls_are_spaced_to_the_rate(self, source: Source, base_url: str) -> None:
        source.on("POST /tx/raw", reply(200, TXID))
        async with WhatsOnChain(base_url, rate_per_s=50) as client:
            started_s = time.monotonic()
            await asyncio.gather(*(client.broadcast(bytes.fromhex(TX_HEX)) for _ in range(6)))
            assert time.monotonic() - started_s >= 5 / 50

    async def test_too_many_waiting_calls_are_refused(self, base_url: str) -> None:
        retry = RetryPolicy(attempts=1)
        async with WhatsOnChain(base_url, rate_per_s=0.02, timeout_s=0.05, retry=retry) as client:
            with pytest.raises(Unavailable):
                await client.chain_info()  # takes the only turn of the next 50 s
            with pytest.raises(RateLimited, match="waiting"):
                await client.chain_info()

    @pytest.mark.parametrize("wrong", ["", "x", "A" * 64, "../" * 22])
    async def test_arguments_that_are_no_hashes(self, client: WhatsOnChain, wrong: str) -> None:
        for call in (client.header, client.raw_tx, client.tsc_proof):
            with pytest.raises(ValueError, match="64 lowercase"):
                await call(wrong)

    async def test_batches_have_limits(self, client: WhatsOnChain) -> None:
        with pytest.raises(ValueError, match="20"):
            await client.unspent_all([A] * 21)
        with pytest.raises(ValueError, match="20"):
            await client.tx_status([])
        with pytest.raises(ValueError, match="20"):
            await client.headers_latest(limit=21)
