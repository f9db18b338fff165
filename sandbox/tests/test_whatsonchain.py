"""WhatsOnChain's blocks and transactions over real HTTP; our own client is one reader."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from memepool_chain.header import Header, parse_header
from memepool_chain.merkle import root_from_tsc
from memepool_chain.whatsonchain import Rejected, WhatsOnChain
from memepool_common.server import serving
from memepool_sandbox.chain.node import PREMINE_BLOCKS, Node
from memepool_sandbox.chain.rules import Policy
from memepool_sandbox.chain_app import ChainSettings, create_chain_app
from memepool_sandbox.wallet import Wallet
from sandbox.tests.asking import Http, get, post, spend

UNKNOWN = "ab" * 32


async def test_chain_info_and_tips(woc: Http, node: Node) -> None:
    node.mine(2)
    old = node.branches.tip.block.hash
    node.reorg(2)
    tip = node.branches.tip
    info = await get(woc, "/chain/info")
    assert info["chain"] == "main"
    assert info["blocks"] == info["headers"] == PREMINE_BLOCKS + 3
    assert info["bestblockhash"] == tip.block.hash
    assert int(info["chainwork"], 16) == tip.chainwork
    assert len(info["chainwork"]) == 64
    assert await get(woc, "/chain/tips") == [
        {"height": PREMINE_BLOCKS + 3, "hash": tip.block.hash, "branchlen": 0, "status": "active"},
        {"height": PREMINE_BLOCKS + 2, "hash": old, "branchlen": 2, "status": "valid-fork"},
    ]
    assert (await woc.get("/woc")).text == "Whats On Chain"


async def test_headers_can_be_rebuilt_and_hashed(woc: Http, node: Node) -> None:
    for height in (0, 1, PREMINE_BLOCKS):
        shown = await get(woc, f"/block/{height}/header")
        rebuilt = Header(
            shown["version"],
            shown["previousblockhash"] or "00" * 32,
            shown["merkleroot"],
            shown["time"],
            int(shown["bits"], 16),
            shown["nonce"],
        )
        assert rebuilt.hash == shown["hash"]
        assert shown["confirmations"] == PREMINE_BLOCKS - height + 1
        assert await get(woc, f"/block/{shown['hash']}/header") == shown
    assert (await get(woc, "/block/0/header"))["nextblockhash"]
    assert (await get(woc, f"/block/{PREMINE_BLOCKS}/header"))["nextblockhash"] == ""


async def test_a_stale_block_stays_readable(woc: Http, node: Node) -> None:
    (old,) = node.mine()
    node.reorg(1)
    shown = await get(woc, f"/block/{old}/header", format="block-headers-client")
    assert shown["status"] == "orphaned"
    assert shown["confirmations"] == -1
    assert shown["nextblockhash"] == ""
    block = await get(woc, f"/block/hash/{old}")
    assert block["txcount"] == 1
    tip = node.branches.tip.block.hash
    active = await get(woc, f"/block/{tip}/header", format="block-headers-client")
    assert active["status"] == "active"


async def test_blocks_and_their_errors(woc: Http, node: Node, payer: Wallet) -> None:
    txid = node.fund(payer.address, 5_000)
    node.mine()
    height = PREMINE_BLOCKS + 1
    block = await get(woc, f"/block/height/{height}")
    assert block == await get(woc, f"/block/hash/{block['hash']}")
    assert block["tx"] == [block["coinbaseTx"]["txid"], txid]
    assert block["num_tx"] == block["txcount"] == 2
    assert block["pages"] is None
    assert block["coinbaseTx"]["vin"][0]["coinbase"]
    assert await get(woc, f"/block/hash/{block['hash']}/page/1") == block["tx"]
    for path, status, body in (
        ("/block/height/999999", 404, ""),
        ("/block/height/abc", 400, '"invalid block height"\n'),
        (f"/block/hash/{UNKNOWN}", 400, ""),
        (f"/block/{UNKNOWN}/header", 400, ""),
        (f"/block/hash/{block['hash']}/page/2", 404, ""),
        ("/no/such/path", 404, ""),
    ):
        response = await woc.get(path)
        assert (response.status_code, response.text) == (status, body), path


async def test_ranges_of_headers(woc: Http, node: Node) -> None:
    tip = PREMINE_BLOCKS

    async def heights(path: str, **query: Any) -> list[int]:
        return [header["height"] for header in await get(woc, path, **query)]

    assert await heights("/block/headers") == list(range(tip, tip - 10, -1))
    fifth = node.branches.at(5).block.hash
    assert await heights("/block/headers", hash=fifth, order="desc") == [5, 4, 3, 2, 1, 0]
    assert await heights("/block/headers", hash=fifth, order="asc", limit=3) == [5, 6, 7]
    assert await heights("/blocks/5/3/header") == [5, 6, 7]
    assert await heights("/blocks/5/3/header", order="desc") == [5, 4, 3]
    bad = await woc.get("/block/headers", params={"limit": 21})
    assert bad.status_code == 400
    assert bad.json() == {"error": "limit can't be less than 1 or greater than 20"}
    missing = await woc.get("/blocks/99999/3/header")
    assert (missing.status_code, missing.text) == (404, '"Block not found"\n')


async def test_raw_headers(woc: Http, node: Node) -> None:
    raw = (await woc.get("/block/headers/latest", params={"count": 3})).content
    headers = [parse_header(raw[at : at + 80]) for at in range(0, len(raw), 80)]
    assert [h.hash for h in headers] == [
        node.branches.at(PREMINE_BLOCKS - back).block.hash for back in (2, 1, 0)
    ]
    files = (await get(woc, "/block/headers/resources"))["files"]
    assert [url.rsplit("/", 1)[1] for url in files] == ["latest"]
    assert (await woc.get("/block/headers/0_10000_headers.bin")).status_code == 404


async def test_broadcast_and_the_nodes_words(woc: Http, node: Node, payer: Wallet) -> None:
    funding = node.fund(payer.address, 100_000)
    raw = spend(payer, funding, 100_000)
    first = await woc.post("/tx/raw", json={"txhex": raw.hex()})
    assert first.status_code == 200
    txid = first.json()
    assert first.text == f'"{txid}"\n'
    assert await post(woc, "/tx/raw", {"txhex": ""}) == ""
    for body, message in (
        ({"txhex": raw.hex()}, "Transaction already in the mempool"),
        ({"txhex": spend(payer, funding, 100_000, 2_000).hex()}, "258: txn-mempool-conflict"),
        ({"txhex": spend(payer, UNKNOWN, 100_000).hex()}, "Missing inputs"),
        ({"txhex": raw.hex()[:-2]}, "TX decode failed"),
        ({"txhex": "nonsense"}, "TX decode failed"),
        ({"txhex": 7}, "TX decode failed"),
    ):
        response = await woc.post("/tx/raw", json=body)
        assert response.status_code == 400
        assert response.json() == f"unexpected response code 500: {message}"
    for garbage in (b"", b"[1]", b"{", b"[" * 100_000):
        assert (await woc.post("/tx/raw", content=garbage)).status_code == 400


async def test_transactions_in_all_their_forms(woc: Http, node: Node, payer: Wallet) -> None:
    funding = node.fund(payer.address, 100_000)
    raw = spend(payer, funding, 100_000)
    txid = node.submit(raw)
    assert "blockhash" not in await get(woc, f"/tx/hash/{txid}")
    assert await get(woc, f"/tx/{txid}/proof/tsc") is None
    assert await get(woc, f"/tx/{UNKNOWN}/proof/tsc") is None
    (block_hash,) = node.mine()
    shown = await get(woc, f"/tx/hash/{txid}")
    assert shown["blockhash"] == block_hash
    assert shown["confirmations"] == 1
    assert shown["vin"][0]["txid"] == funding
    assert shown["vout"][0]["value"] == 0.00001
    assert shown["vout"][0]["scriptPubKey"]["addresses"] == [payer.address]
    assert shown["vout"][1]["scriptPubKey"]["type"] == "nulldata"
    assert (await woc.get(f"/tx/{txid}/hex")).text == raw.hex()
    assert (await woc.get(f"/tx/{txid}/bin")).content == raw
    assert (await woc.get(f"/tx/{txid}/out/1/hex")).text == "006a086d656d65706f6f6c"
    (bulk,) = await post(woc, "/txs", {"txids": [txid]})
    assert bulk["vout"][1]["scriptPubKey"]["hex"] == "6a086d656d65706f6f6c"  # the 00 is missing
    for path in (f"/tx/hash/{UNKNOWN}", f"/tx/{UNKNOWN}/hex", f"/tx/{txid}/out/9/hex"):
        response = await woc.get(path)
        assert (response.status_code, response.text) == (404, "")
    response = await woc.get("/tx/abc/hex")
    assert response.status_code == 400
    assert response.json() == "txid must be 64 hex characters in length"


async def test_proofs_fold_to_the_root(woc: Http, node: Node, payer: Wallet) -> None:
    txids = [node.fund(payer.address, 5_000 + n) for n in range(4)]
    (block_hash,) = node.mine()
    root = (await get(woc, f"/block/{block_hash}/header"))["merkleroot"]
    for position, txid in enumerate(txids, start=1):
        (proof,) = await get(woc, f"/tx/{txid}/proof/tsc")
        assert (proof["index"], proof["txOrId"], proof["target"]) == (position, txid, block_hash)
        assert root_from_tsc(txid, proof["index"], proof["nodes"]) == root
    assert (await get(woc, f"/tx/{txids[3]}/proof/tsc"))[0]["nodes"][0] == "*"


async def test_status_in_bulk(woc: Http, node: Node, payer: Wallet) -> None:
    confirmed = node.fund(payer.address, 5_000)
    (block_hash,) = node.mine()
    waiting = node.fund(payer.address, 6_000)
    status = await post(woc, "/txs/status", {"txids": [confirmed, waiting, UNKNOWN]})
    assert status == [
        {
            "txid": confirmed,
            "blockhash": block_hash,
            "blockheight": PREMINE_BLOCKS + 1,
            "blocktime": node.branches.tip.block.header.time,
            "confirmations": 1,
        },
        {"txid": waiting},
        {"txid": UNKNOWN, "error": "unknown"},
    ]
    (hexed,) = await post(woc, "/txs/hex", {"txids": [waiting]})
    assert hexed["hex"] == (await woc.get(f"/tx/{waiting}/hex")).text
    for path in ("/txs", "/txs/hex", "/txs/status"):
        response = await woc.post(path, json={"txids": [UNKNOWN] * 21})
        assert response.status_code == 400
        assert response.json() == "Maximum number of transactions per request has been exceeded"
        assert (await woc.post(path, json={"txids": [7]})).status_code == 400


async def test_who_spends_an_output(woc: Http, node: Node, payer: Wallet) -> None:
    funding = node.fund(payer.address, 100_000)
    assert (await woc.get(f"/tx/{funding}/0/spent")).status_code == 404  # known and unspent
    assert (await woc.get(f"/tx/{UNKNOWN}/0/spent")).status_code == 400  # unknown
    txid = node.submit(spend(payer, funding, 100_000))
    spent = {"txid": txid, "vin": 0, "status": "unconfirmed"}
    assert await get(woc, f"/tx/{funding}/0/spent") == spent
    assert await get(woc, f"/tx/{funding}/0/unconfirmed/spent") == spent
    assert (await woc.get(f"/tx/{funding}/0/confirmed/spent")).status_code == 404
    node.mine()
    utxos = [{"txid": funding, "vout": 0}, {"txid": txid, "vout": 0}, {"txid": UNKNOWN, "vout": 0}]
    assert await post(woc, "/utxos/spent", {"utxos": utxos}) == [
        {"utxo": utxos[0], "spentIn": {**spent, "status": "confirmed"}, "error": ""},
        {"utxo": utxos[1], "error": ""},
        {"utxo": utxos[2], "error": "unknown"},
    ]
    for bad in ([{"txid": funding}], [{"txid": funding, "vout": -1}], ["x"]):
        assert (await woc.post("/utxos/spent", json={"utxos": bad})).status_code == 400


async def test_an_oversized_body_is_refused(tmp_path: Path) -> None:
    node = Node.open(tmp_path / "chain", policy=Policy(size_bytes_max=1_000))
    async with (
        serving(create_chain_app(node), "127.0.0.1", 0) as port,
        httpx.AsyncClient() as client,
    ):
        url = f"http://127.0.0.1:{port}/v1/bsv/main/tx/raw"
        assert (await client.post(url, content=b"0" * 10_000)).status_code == 413
    node.close()


async def test_the_rate_limit(node: Node) -> None:
    app = create_chain_app(node, ChainSettings(rate_per_s=3))
    async with serving(app, "127.0.0.1", 0) as port, httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{port}/v1/bsv/main/chain/info"
        answers = [await client.get(url)]
        while answers[-1].status_code == 200 and len(answers) < 200:
            answers.append(await client.get(url))
        assert answers[-1].status_code == 429
        assert answers[-1].text == '"Too Many Requests"\n'
        assert "1970" in answers[-1].headers["retry-after"]
        first = answers[0].headers
        assert (first["x-ratelimit-limit"], first["x-ratelimit-remaining"]) == ("3", "2")
        assert int(first["x-ratelimit-daily-remaining"]) < int(first["x-ratelimit-daily-limit"])


async def test_our_own_client_reads_it(
    woc_url: str, node: Node, payer: Wallet, nobody: str
) -> None:
    async with WhatsOnChain(woc_url, rate_per_s=1_000) as client:
        funding = node.fund(payer.address, 100_000)
        raw = spend(payer, funding, 100_000)
        txid = await client.broadcast(raw)
        assert await client.broadcast(raw) == txid
        with pytest.raises(Rejected):
            await client.broadcast(spend(payer, funding, 100_000, 2_000))
        assert await client.tsc_proof(txid) is None
        (block_hash,) = node.mine()
        proof = await client.tsc_proof(txid)
        assert proof is not None
        assert proof.block_hash == block_hash
        info = await client.chain_info()
        header = (await client.header(info.best_block_hash)).header
        assert root_from_tsc(txid, proof.index, proof.nodes) == header.merkle_root
        assert await client.raw_tx(txid) == raw
        coins = await client.unspent_all([payer.address, nobody])
        assert [coin.txid for coin in coins[payer.address]] == [txid, txid]
        assert coins[nobody] == []
        assert len(await client.headers_latest(limit=20)) == 20
