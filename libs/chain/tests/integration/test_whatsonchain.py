"""The WhatsOnChain client against real HTTP: documented answers, and its own manners."""

import asyncio
import json
import time

import pytest

from memepool_chain.checkpoint import fetch_checkpoint
from memepool_chain.merkle import root_from_tsc
from memepool_chain.network import REGTEST
from memepool_chain.testing import genesis, grow
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
    header_json,
    reply,
)
from memepool_chain.whatsonchain import (
    RateLimited,
    RetryPolicy,
    Unavailable,
    WhatsOnChain,
)


class TestAnswers:
    async def test_chain_info(self, source: Source, client: WhatsOnChain) -> None:
        info = {"chain": "main", "blocks": 640504, "headers": 640504, "difficulty": 286794300954.83}
        source.on("GET /chain/info", reply(200, info | {"bestblockhash": BLOCK_HASH}))
        answer = await client.chain_info()
        assert (answer.chain, answer.height) == ("main", 640504)
        assert answer.best_block_hash == BLOCK_HASH

    async def test_headers_by_hash_and_height(self, source: Source, client: WhatsOnChain) -> None:
        source.on(f"GET /block/{HEADER_HASH}/header", reply(200, HEADER_JSON))
        source.on("GET /block/100000/header", reply(200, HEADER_JSON))
        by_hash, by_height = await client.header(HEADER_HASH), await client.header(100_000)
        assert by_hash == by_height
        assert (by_hash.header.hash, by_hash.height) == (HEADER_HASH, 100_000)

    @pytest.mark.parametrize("previous", [None, ""])
    async def test_the_first_block_has_no_previous_one(
        self, source: Source, client: WhatsOnChain, previous: str | None
    ) -> None:
        source.on("GET /block/0/header", reply(200, header_json(genesis(), 0, previous)))
        assert (await client.header(0)).header == genesis()

    async def test_latest_headers(self, source: Source, client: WhatsOnChain) -> None:
        source.on("GET /block/headers?limit=10&order=desc", reply(200, [HEADER_JSON]))
        target = f"GET /block/headers?limit=20&order=desc&hash={HEADER_HASH}"
        source.on(target, reply(200, [HEADER_JSON, HEADER_JSON]))
        assert len(await client.headers_latest()) == 1
        run = await client.headers_latest(limit=20, start_hash=HEADER_HASH)
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
            reply(200, [coins_json(A, [seen, now_mined]), coins_json(B, None)]),
        )
        source.on(
            "POST /addresses/confirmed/unspent",
            reply(200, [coins_json(B, []), coins_json(A, [mined])]),
        )
        answer = await client.unspent_all([A, B])
        assert answer[B] == []
        assert [(each.txid, each.vout, each.satoshis, each.height) for each in answer[A]] == [
            (OTHER_TXID, 0, 98, None),
            (TXID, 1, 154, 861499),
        ]
        assert json.loads(source.requests[0].body) == {"addresses": [A, B]}

    async def test_coins_on_several_pages(self, source: Source, client: WhatsOnChain) -> None:
        pages = [
            coins_json(A, [{"height": 5, "tx_pos": n, "tx_hash": TXID, "value": n}])
            for n in range(3)
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
            source.on(f"GET /block/{header.hash}/header", reply(200, header_json(header, height)))
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
            await client.headers_latest(limit=21)
