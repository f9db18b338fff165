"""The WhatsOnChain client on the source's bad days, and against a source that lies."""

import asyncio

import pytest

from memepool_chain.testing.whatsonchain import (
    BLOCK_HASH,
    HEADER_HASH,
    HEADER_JSON,
    OTHER_TXID,
    TX_HEX,
    TXID,
    A,
    B,
    Source,
    coins_json,
    reply,
)
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
        source.on(f"GET /block/{HEADER_HASH}/header", reply(200, HEADER_JSON | change))
        with pytest.raises(MalformedAnswer):
            await client.header(HEADER_HASH)

    async def test_another_header_than_asked(self, source: Source, client: WhatsOnChain) -> None:
        source.on(f"GET /block/{BLOCK_HASH}/header", reply(200, HEADER_JSON))
        source.on("GET /block/99999/header", reply(200, HEADER_JSON))
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
            [coins_json(B, [])],
            [coins_json(A, [{"tx_pos": 0, "tx_hash": TXID, "value": 1.5}])],
            [coins_json(A, [{"tx_pos": 0, "tx_hash": TXID, "value": -1}])],
            [coins_json(A, [{"tx_pos": 0, "tx_hash": TXID, "value": 10**17}])],
            [coins_json(A, [{"tx_pos": 1 << 32, "tx_hash": TXID, "value": 1}])],
            [coins_json(A, [{"tx_pos": 0, "tx_hash": "x", "value": 1}])],
            [coins_json(A, [{"tx_pos": 0, "tx_hash": TXID, "value": 1, "height": "5"}])],
            [coins_json(A, [5])],  # type: ignore[list-item]  # that is the point
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
        endless = coins_json(A, []) | {"nextPageToken": "again"}
        source.on("POST /addresses/unconfirmed/unspent", reply(200, [endless]))
        source.on(f"GET /address/{A}/unconfirmed/unspent?token=again", reply(200, endless))
        with pytest.raises(MalformedAnswer, match="pages"):
            await client.unspent_all([A])

    async def test_an_error_for_one_address(self, source: Source, client: WhatsOnChain) -> None:
        failed = coins_json(A, []) | {"error": "unable to fetch"}
        source.on("POST /addresses/unconfirmed/unspent", reply(200, [failed]))
        with pytest.raises(Rejected, match="unable to fetch"):
            await client.unspent_all([A])

    @pytest.mark.parametrize("answer", ["", OTHER_TXID, None, {"txid": TXID}])
    async def test_a_broadcast_that_answers_something_else(
        self, source: Source, client: WhatsOnChain, answer: object
    ) -> None:
        source.on("POST /tx/raw", reply(200, answer))
        with pytest.raises(MalformedAnswer):
            await client.broadcast(bytes.fromhex(TX_HEX))
