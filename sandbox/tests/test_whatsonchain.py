"""WhatsOnChain's wire format, over real HTTP, with its quirks; our own client is one reader."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from memepool_chain.address import address_of, p2pkh_script, script_hash
from memepool_chain.hashing import hash160, sha256
from memepool_chain.header import Header, parse_header
from memepool_chain.keys import PrivateKey
from memepool_chain.merkle import root_from_tsc
from memepool_chain.network import REGTEST
from memepool_chain.signing import Coin, build_payment
from memepool_chain.tx import TxOut
from memepool_chain.whatsonchain import Rejected, WhatsOnChain
from memepool_common.server import serving
from memepool_sandbox.chain.node import PREMINE_BLOCKS, Node
from memepool_sandbox.chain.rules import Policy
from memepool_sandbox.chain_app import ChainSettings, create_chain_app

KEY = PrivateKey.from_bytes(b"\x07" * 32)
SCRIPT = p2pkh_script(hash160(KEY.public_key))
ADDRESS = address_of(KEY.public_key, REGTEST)
NOBODY = address_of(PrivateKey.from_bytes(b"\x09" * 32).public_key, REGTEST)
UNKNOWN = "ab" * 32


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node.open(tmp_path / "chain")


@pytest_asyncio.fixture
async def base_url(node: Node) -> AsyncIterator[str]:
    app = create_chain_app(node, ChainSettings(rate_per_s=10_000))
    async with serving(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}/v1/bsv"
    node.close()


@pytest_asyncio.fixture
async def http(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{base_url}/main", timeout=10) as client:
        yield client


async def get(http: httpx.AsyncClient, path: str, **query: Any) -> Any:
    response = await http.get(path, params=query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json; charset=UTF-8"
    assert response.text.endswith("\n")
    return response.json()


async def post(http: httpx.AsyncClient, path: str, body: object) -> Any:
    response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def spend(txid: str, satoshis: int, paid: int = 1_000) -> bytes:
    coin = Coin(txid, 0, satoshis, SCRIPT)
    outputs = [TxOut(paid, SCRIPT), TxOut(0, b"\x00\x6a\x08memepool")]
    return build_payment([coin], outputs, SCRIPT, 100, {SCRIPT: KEY}).serialize()


async def test_chain_info_and_tips(http: httpx.AsyncClient, node: Node) -> None:
    node.mine(2)
    old = node.branches.tip.block.hash
    node.reorg(2)
    tip = node.branches.tip
    info = await get(http, "/chain/info")
    assert info["chain"] == "main"
    assert info["blocks"] == info["headers"] == PREMINE_BLOCKS + 3
    assert info["bestblockhash"] == tip.block.hash
    assert int(info["chainwork"], 16) == tip.chainwork
    assert len(info["chainwork"]) == 64
    assert await get(http, "/chain/tips") == [
        {"height": PREMINE_BLOCKS + 3, "hash": tip.block.hash, "branchlen": 0, "status": "active"},
        {"height": PREMINE_BLOCKS + 2, "hash": old, "branchlen": 2, "status": "valid-fork"},
    ]
    assert (await http.get("/woc")).text == "Whats On Chain"


async def test_headers_can_be_rebuilt_and_hashed(http: httpx.AsyncClient, node: Node) -> None:
    for height in (0, 1, PREMINE_BLOCKS):
        shown = await get(http, f"/block/{height}/header")
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
        assert await get(http, f"/block/{shown['hash']}/header") == shown
    assert (await get(http, "/block/0/header"))["nextblockhash"]
    assert (await get(http, f"/block/{PREMINE_BLOCKS}/header"))["nextblockhash"] == ""


async def test_a_stale_block_stays_readable(http: httpx.AsyncClient, node: Node) -> None:
    (old,) = node.mine()
    node.reorg(1)
    shown = await get(http, f"/block/{old}/header", format="block-headers-client")
    assert shown["status"] == "orphaned"
    assert shown["confirmations"] == -1
    assert shown["nextblockhash"] == ""
    block = await get(http, f"/block/hash/{old}")
    assert block["txcount"] == 1
    tip = node.branches.tip.block.hash
    active = await get(http, f"/block/{tip}/header", format="block-headers-client")
    assert active["status"] == "active"


async def test_blocks_and_their_errors(http: httpx.AsyncClient, node: Node) -> None:
    txid = node.fund(ADDRESS, 5_000)
    node.mine()
    height = PREMINE_BLOCKS + 1
    block = await get(http, f"/block/height/{height}")
    assert block == await get(http, f"/block/hash/{block['hash']}")
    assert block["tx"] == [block["coinbaseTx"]["txid"], txid]
    assert block["num_tx"] == block["txcount"] == 2
    assert block["pages"] is None
    assert block["coinbaseTx"]["vin"][0]["coinbase"]
    assert await get(http, f"/block/hash/{block['hash']}/page/1") == block["tx"]
    for path, status, body in (
        ("/block/height/999999", 404, ""),
        ("/block/height/abc", 400, '"invalid block height"\n'),
        (f"/block/hash/{UNKNOWN}", 400, ""),
        (f"/block/{UNKNOWN}/header", 400, ""),
        (f"/block/hash/{block['hash']}/page/2", 404, ""),
        ("/no/such/path", 404, ""),
    ):
        response = await http.get(path)
        assert (response.status_code, response.text) == (status, body), path


async def test_ranges_of_headers(http: httpx.AsyncClient, node: Node) -> None:
    tip = PREMINE_BLOCKS

    async def heights(path: str, **query: Any) -> list[int]:
        return [header["height"] for header in await get(http, path, **query)]

    assert await heights("/block/headers") == list(range(tip, tip - 10, -1))
    fifth = node.branches.at(5).block.hash
    assert await heights("/block/headers", hash=fifth, order="desc") == [5, 4, 3, 2, 1, 0]
    assert await heights("/block/headers", hash=fifth, order="asc", limit=3) == [5, 6, 7]
    assert await heights("/blocks/5/3/header") == [5, 6, 7]
    assert await heights("/blocks/5/3/header", order="desc") == [5, 4, 3]
    bad = await http.get("/block/headers", params={"limit": 21})
    assert bad.status_code == 400
    assert bad.json() == {"error": "limit can't be less than 1 or greater than 20"}
    missing = await http.get("/blocks/99999/3/header")
    assert (missing.status_code, missing.text) == (404, '"Block not found"\n')


async def test_raw_headers(http: httpx.AsyncClient, node: Node) -> None:
    raw = (await http.get("/block/headers/latest", params={"count": 3})).content
    headers = [parse_header(raw[at : at + 80]) for at in range(0, len(raw), 80)]
    assert [h.hash for h in headers] == [
        node.branches.at(PREMINE_BLOCKS - back).block.hash for back in (2, 1, 0)
    ]
    files = (await get(http, "/block/headers/resources"))["files"]
    assert [url.rsplit("/", 1)[1] for url in files] == ["latest"]
    assert (await http.get("/block/headers/0_10000_headers.bin")).status_code == 404


async def test_broadcast_and_the_nodes_words(http: httpx.AsyncClient, node: Node) -> None:
    funding = node.fund(ADDRESS, 100_000)
    raw = spend(funding, 100_000)
    first = await http.post("/tx/raw", json={"txhex": raw.hex()})
    assert first.status_code == 200
    txid = first.json()
    assert first.text == f'"{txid}"\n'
    assert await post(http, "/tx/raw", {"txhex": ""}) == ""
    for body, message in (
        ({"txhex": raw.hex()}, "Transaction already in the mempool"),
        ({"txhex": spend(funding, 100_000, 2_000).hex()}, "258: txn-mempool-conflict"),
        ({"txhex": spend(UNKNOWN, 100_000).hex()}, "Missing inputs"),
        ({"txhex": raw.hex()[:-2]}, "TX decode failed"),
        ({"txhex": "nonsense"}, "TX decode failed"),
        ({"txhex": 7}, "TX decode failed"),
    ):
        response = await http.post("/tx/raw", json=body)
        assert response.status_code == 400
        assert response.json() == f"unexpected response code 500: {message}"
    for garbage in (b"", b"[1]", b"{", b"[" * 100_000):
        assert (await http.post("/tx/raw", content=garbage)).status_code == 400


async def test_transactions_in_all_their_forms(http: httpx.AsyncClient, node: Node) -> None:
    funding = node.fund(ADDRESS, 100_000)
    raw = spend(funding, 100_000)
    txid = node.submit(raw)
    assert "blockhash" not in await get(http, f"/tx/hash/{txid}")
    assert await get(http, f"/tx/{txid}/proof/tsc") is None
    assert await get(http, f"/tx/{UNKNOWN}/proof/tsc") is None
    (block_hash,) = node.mine()
    shown = await get(http, f"/tx/hash/{txid}")
    assert shown["blockhash"] == block_hash
    assert shown["confirmations"] == 1
    assert shown["vin"][0]["txid"] == funding
    assert shown["vout"][0]["value"] == 0.00001
    assert shown["vout"][0]["scriptPubKey"]["addresses"] == [ADDRESS]
    assert shown["vout"][1]["scriptPubKey"]["type"] == "nulldata"
    assert (await http.get(f"/tx/{txid}/hex")).text == raw.hex()
    assert (await http.get(f"/tx/{txid}/bin")).content == raw
    assert (await http.get(f"/tx/{txid}/out/1/hex")).text == "006a086d656d65706f6f6c"
    (bulk,) = await post(http, "/txs", {"txids": [txid]})
    assert bulk["vout"][1]["scriptPubKey"]["hex"] == "6a086d656d65706f6f6c"  # the 00 is missing
    for path in (f"/tx/hash/{UNKNOWN}", f"/tx/{UNKNOWN}/hex", f"/tx/{txid}/out/9/hex"):
        response = await http.get(path)
        assert (response.status_code, response.text) == (404, "")
    response = await http.get("/tx/abc/hex")
    assert response.status_code == 400
    assert response.json() == "txid must be 64 hex characters in length"


async def test_proofs_fold_to_the_root(http: httpx.AsyncClient, node: Node) -> None:
    txids = [node.fund(ADDRESS, 5_000 + n) for n in range(4)]
    (block_hash,) = node.mine()
    root = (await get(http, f"/block/{block_hash}/header"))["merkleroot"]
    for position, txid in enumerate(txids, start=1):
        (proof,) = await get(http, f"/tx/{txid}/proof/tsc")
        assert (proof["index"], proof["txOrId"], proof["target"]) == (position, txid, block_hash)
        assert root_from_tsc(txid, proof["index"], proof["nodes"]) == root
    assert (await get(http, f"/tx/{txids[3]}/proof/tsc"))[0]["nodes"][0] == "*"


async def test_status_in_bulk(http: httpx.AsyncClient, node: Node) -> None:
    confirmed = node.fund(ADDRESS, 5_000)
    (block_hash,) = node.mine()
    waiting = node.fund(ADDRESS, 6_000)
    status = await post(http, "/txs/status", {"txids": [confirmed, waiting, UNKNOWN]})
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
    (hexed,) = await post(http, "/txs/hex", {"txids": [waiting]})
    assert hexed["hex"] == (await http.get(f"/tx/{waiting}/hex")).text
    for path in ("/txs", "/txs/hex", "/txs/status"):
        response = await http.post(path, json={"txids": [UNKNOWN] * 21})
        assert response.status_code == 400
        assert response.json() == "Maximum number of transactions per request has been exceeded"
        assert (await http.post(path, json={"txids": [7]})).status_code == 400


async def test_who_spends_an_output(http: httpx.AsyncClient, node: Node) -> None:
    funding = node.fund(ADDRESS, 100_000)
    assert (await http.get(f"/tx/{funding}/0/spent")).status_code == 404  # known and unspent
    assert (await http.get(f"/tx/{UNKNOWN}/0/spent")).status_code == 400  # unknown
    txid = node.submit(spend(funding, 100_000))
    spent = {"txid": txid, "vin": 0, "status": "unconfirmed"}
    assert await get(http, f"/tx/{funding}/0/spent") == spent
    assert await get(http, f"/tx/{funding}/0/unconfirmed/spent") == spent
    assert (await http.get(f"/tx/{funding}/0/confirmed/spent")).status_code == 404
    node.mine()
    utxos = [{"txid": funding, "vout": 0}, {"txid": txid, "vout": 0}, {"txid": UNKNOWN, "vout": 0}]
    assert await post(http, "/utxos/spent", {"utxos": utxos}) == [
        {"utxo": utxos[0], "spentIn": {**spent, "status": "confirmed"}, "error": ""},
        {"utxo": utxos[1], "error": ""},
        {"utxo": utxos[2], "error": "unknown"},
    ]
    for bad in ([{"txid": funding}], [{"txid": funding, "vout": -1}], ["x"]):
        assert (await http.post("/utxos/spent", json={"utxos": bad})).status_code == 400


async def test_coins_of_an_address(http: httpx.AsyncClient, node: Node) -> None:
    reversed_hash = sha256(SCRIPT)[::-1].hex()
    first = node.fund(ADDRESS, 100_000)
    node.mine()
    child = node.submit(spend(first, 100_000))
    coins = await get(http, f"/address/{ADDRESS}/unspent/all")
    assert coins["script"] == reversed_hash
    assert coins["address"] == ADDRESS
    assert [(c["tx_hash"], c["status"], c["isSpentInMempoolTx"]) for c in coins["result"]] == [
        (first, "confirmed", True),
        (child, "unconfirmed", False),
        (child, "unconfirmed", False),
    ]
    assert coins["result"][0]["height"] == PREMINE_BLOCKS + 1
    assert "height" not in coins["result"][1]
    assert coins["result"][1]["hex"] == SCRIPT.hex()
    by_script = await get(http, f"/script/{reversed_hash}/unspent/all")
    assert by_script == {k: v for k, v in coins.items() if k != "address"}
    confirmed = await get(http, f"/address/{ADDRESS}/confirmed/unspent")
    assert [set(c) for c in confirmed["result"]] == [
        {"height", "tx_pos", "tx_hash", "value", "isSpentInMempoolTx"}
    ]
    assert (await get(http, f"/address/{NOBODY}/unspent/all"))["result"] is None
    bad = await http.get("/address/1BitcoinEaterAddressDontSendf59kuE/unspent/all")
    assert (bad.status_code, bad.json()) == (400, "unable to convert address to scripthash")


async def test_balances_and_histories(http: httpx.AsyncClient, node: Node) -> None:
    first = node.fund(ADDRESS, 100_000)
    node.mine()
    child = node.submit(spend(first, 100_000))
    one = f"/address/{ADDRESS}"
    fee = node.view.fee_sats(node.view.unconfirmed()[0])
    assert (await get(http, f"{one}/confirmed/balance"))["confirmed"] == 100_000
    assert (await get(http, f"{one}/unconfirmed/balance"))["unconfirmed"] == -fee
    legacy = {"confirmed": 100_000, "unconfirmed": -fee}
    assert await get(http, f"{one}/balance") == legacy
    height = PREMINE_BLOCKS + 1
    confirmed = [{"tx_hash": first, "height": height}]
    assert (await get(http, f"{one}/confirmed/history"))["result"] == confirmed
    mempool = await get(http, f"{one}/unconfirmed/history")
    assert mempool["result"] == [{"tx_hash": child}]
    assert await get(http, f"{one}/history") == [*confirmed, {"tx_hash": child, "height": 0}]
    assert [c["tx_hash"] for c in await get(http, f"{one}/unspent")] == [child, child]
    (bulk,) = await post(http, "/addresses/history/all", {"addresses": [ADDRESS]})
    assert bulk["confirmed"]["result"] == confirmed
    assert bulk["unconfirmed"]["result"] == [{"tx_hash": child}]


async def test_paging_sees_every_item_once(http: httpx.AsyncClient, node: Node) -> None:
    txids = []
    for n in range(23):
        txids.append(node.fund(ADDRESS, 1_000 + n))
        if n % 4 == 0:
            node.mine()
    node.mine()

    async def pages(path: str, limit: int, **query: Any) -> list[str]:
        found: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = await get(http, path, limit=limit, **query, **token)
            assert len(page["result"]) <= limit
            found += [item["tx_hash"] for item in page["result"]]
            if "nextPageToken" not in page:
                return found
            token = {"token": page["nextPageToken"]}

    unspent = await pages(f"/address/{ADDRESS}/confirmed/unspent", 5)
    assert sorted(unspent) == sorted(txids)
    newest_first = await pages(f"/address/{ADDRESS}/confirmed/history", 7)
    assert sorted(newest_first) == sorted(txids)
    assert (
        newest_first == (await pages(f"/address/{ADDRESS}/confirmed/history", 4, order="asc"))[::-1]
    )
    early = await pages(f"/address/{ADDRESS}/confirmed/history", 9, height=PREMINE_BLOCKS + 1)
    assert early == txids[:1]
    bad = await http.get(f"/address/{ADDRESS}/confirmed/unspent", params={"token": "zz"})
    assert (bad.status_code, bad.json()) == (400, "invalid token")
    (bulk,) = await post(http, "/addresses/confirmed/unspent", {"addresses": [ADDRESS]})
    assert len(bulk["result"]) == 20
    rest = await get(http, f"/address/{ADDRESS}/confirmed/unspent", token=bulk["nextPageToken"])
    assert sorted(c["tx_hash"] for c in bulk["result"] + rest["result"]) == sorted(txids)


async def test_bulk_calls(http: httpx.AsyncClient, node: Node) -> None:
    txid = node.fund(ADDRESS, 9_000)
    addresses = [ADDRESS, NOBODY, "nonsense"]
    found, nothing, bad = await post(
        http, "/addresses/unconfirmed/unspent", {"addresses": addresses}
    )
    assert [c["tx_hash"] for c in found["result"]] == [txid]
    assert nothing["result"] is None
    assert nothing["error"] == ""
    assert bad["error"] == "unable to convert address to scripthash"
    scripts = [script_hash(SCRIPT)]
    (by_script,) = await post(http, "/scripts/unconfirmed/unspent", {"scripts": scripts})
    assert by_script["result"] == found["result"]
    (balance,) = await post(http, "/scripts/unconfirmed/balance", {"scripts": scripts})
    assert balance["unconfirmed"] == 9_000
    legacy = await post(http, "/addresses/unspent", {"addresses": [ADDRESS]})
    assert legacy == [{"address": ADDRESS, "unspent": [], "error": ""}]  # blind to the mempool
    for path, field in (
        ("/addresses/confirmed/unspent", "addresses"),
        ("/scripts/confirmed/history", "scripts"),
    ):
        response = await http.post(path, json={field: [ADDRESS] * 21})
        assert response.status_code == 400
        assert "per request has been exceeded" in response.json()


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
    node.close()


async def test_our_own_client_reads_it(base_url: str, node: Node) -> None:
    async with WhatsOnChain(base_url, rate_per_s=1_000) as client:
        funding = node.fund(ADDRESS, 100_000)
        raw = spend(funding, 100_000)
        txid = await client.broadcast(raw)
        assert await client.broadcast(raw) == txid
        with pytest.raises(Rejected):
            await client.broadcast(spend(funding, 100_000, 2_000))
        assert await client.tsc_proof(txid) is None
        (block_hash,) = node.mine()
        proof = await client.tsc_proof(txid)
        assert proof is not None
        assert proof.block_hash == block_hash
        info = await client.chain_info()
        header = (await client.header(info.best_block_hash)).header
        assert root_from_tsc(txid, proof.index, proof.nodes) == header.merkle_root
        assert await client.raw_tx(txid) == raw
        coins = await client.unspent_all([ADDRESS, NOBODY])
        assert [coin.txid for coin in coins[ADDRESS]] == [txid, txid]
        assert coins[NOBODY] == []
        assert (await client.tx_status([txid, UNKNOWN]))[UNKNOWN].known is False
        assert len(await client.headers_latest(limit=20)) == 20
