"""WhatsOnChain's coins, balances and histories of addresses and scripts, over real HTTP."""

from typing import Any

from memepool_chain.address import script_hash
from memepool_chain.hashing import sha256
from memepool_sandbox.chain.node import PREMINE_BLOCKS, Node
from memepool_sandbox.wallet import Wallet
from sandbox.tests.asking import Http, get, post, spend


async def test_coins_of_an_address(woc: Http, node: Node, payer: Wallet, nobody: str) -> None:
    reversed_hash = sha256(payer.script)[::-1].hex()
    first = node.fund(payer.address, 100_000)
    node.mine()
    child = node.submit(spend(payer, first, 100_000))
    coins = await get(woc, f"/address/{payer.address}/unspent/all")
    assert coins["script"] == reversed_hash
    assert coins["address"] == payer.address
    assert [(c["tx_hash"], c["status"], c["isSpentInMempoolTx"]) for c in coins["result"]] == [
        (first, "confirmed", True),
        (child, "unconfirmed", False),
        (child, "unconfirmed", False),
    ]
    assert coins["result"][0]["height"] == PREMINE_BLOCKS + 1
    assert "height" not in coins["result"][1]
    assert coins["result"][1]["hex"] == payer.script.hex()
    by_script = await get(woc, f"/script/{reversed_hash}/unspent/all")
    assert by_script == {k: v for k, v in coins.items() if k != "address"}
    confirmed = await get(woc, f"/address/{payer.address}/confirmed/unspent")
    assert [set(c) for c in confirmed["result"]] == [
        {"height", "tx_pos", "tx_hash", "value", "isSpentInMempoolTx"}
    ]
    assert (await get(woc, f"/address/{nobody}/unspent/all"))["result"] is None
    bad = await woc.get("/address/1BitcoinEaterAddressDontSendf59kuE/unspent/all")
    assert (bad.status_code, bad.json()) == (400, "unable to convert address to scripthash")


async def test_balances_and_histories(woc: Http, node: Node, payer: Wallet) -> None:
    first = node.fund(payer.address, 100_000)
    node.mine()
    child = node.submit(spend(payer, first, 100_000))
    one = f"/address/{payer.address}"
    fee = node.view.fee_sats(node.view.unconfirmed()[0])
    assert (await get(woc, f"{one}/confirmed/balance"))["confirmed"] == 100_000
    assert (await get(woc, f"{one}/unconfirmed/balance"))["unconfirmed"] == -fee
    legacy = {"confirmed": 100_000, "unconfirmed": -fee}
    assert await get(woc, f"{one}/balance") == legacy
    height = PREMINE_BLOCKS + 1
    confirmed = [{"tx_hash": first, "height": height}]
    assert (await get(woc, f"{one}/confirmed/history"))["result"] == confirmed
    mempool = await get(woc, f"{one}/unconfirmed/history")
    assert mempool["result"] == [{"tx_hash": child}]
    assert await get(woc, f"{one}/history") == [*confirmed, {"tx_hash": child, "height": 0}]
    assert [c["tx_hash"] for c in await get(woc, f"{one}/unspent")] == [child, child]
    (bulk,) = await post(woc, "/addresses/history/all", {"addresses": [payer.address]})
    assert bulk["confirmed"]["result"] == confirmed
    assert bulk["unconfirmed"]["result"] == [{"tx_hash": child}]


async def test_paging_sees_every_item_once(woc: Http, node: Node, payer: Wallet) -> None:
    txids = []
    for n in range(23):
        txids.append(node.fund(payer.address, 1_000 + n))
        if n % 4 == 0:
            node.mine()
    node.mine()

    async def pages(path: str, limit: int, **query: Any) -> list[str]:
        found: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = await get(woc, path, limit=limit, **query, **token)
            assert len(page["result"]) <= limit
            found += [item["tx_hash"] for item in page["result"]]
            if "nextPageToken" not in page:
                return found
            token = {"token": page["nextPageToken"]}

    unspent = await pages(f"/address/{payer.address}/confirmed/unspent", 5)
    assert sorted(unspent) == sorted(txids)
    newest_first = await pages(f"/address/{payer.address}/confirmed/history", 7)
    assert sorted(newest_first) == sorted(txids)
    assert (
        newest_first
        == (await pages(f"/address/{payer.address}/confirmed/history", 4, order="asc"))[::-1]
    )
    early = await pages(f"/address/{payer.address}/confirmed/history", 9, height=PREMINE_BLOCKS + 1)
    assert early == txids[:1]
    bad = await woc.get(f"/address/{payer.address}/confirmed/unspent", params={"token": "zz"})
    assert (bad.status_code, bad.json()) == (400, "invalid token")
    (bulk,) = await post(woc, "/addresses/confirmed/unspent", {"addresses": [payer.address]})
    assert len(bulk["result"]) == 20
    rest = await get(
        woc, f"/address/{payer.address}/confirmed/unspent", token=bulk["nextPageToken"]
    )
    assert sorted(c["tx_hash"] for c in bulk["result"] + rest["result"]) == sorted(txids)


async def test_bulk_calls(woc: Http, node: Node, payer: Wallet, nobody: str) -> None:
    txid = node.fund(payer.address, 9_000)
    addresses = [payer.address, nobody, "nonsense"]
    found, nothing, bad = await post(
        woc, "/addresses/unconfirmed/unspent", {"addresses": addresses}
    )
    assert [c["tx_hash"] for c in found["result"]] == [txid]
    assert nothing["result"] is None
    assert nothing["error"] == ""
    assert bad["error"] == "unable to convert address to scripthash"
    scripts = [script_hash(payer.script)]
    (by_script,) = await post(woc, "/scripts/unconfirmed/unspent", {"scripts": scripts})
    assert by_script["result"] == found["result"]
    (balance,) = await post(woc, "/scripts/unconfirmed/balance", {"scripts": scripts})
    assert balance["unconfirmed"] == 9_000
    legacy = await post(woc, "/addresses/unspent", {"addresses": [payer.address]})
    assert legacy == [
        {"address": payer.address, "unspent": [], "error": ""}
    ]  # blind to the mempool
    for field in ("addresses", "scripts"):
        path = f"/{field}/confirmed/history"
        response = await woc.post(path, json={field: [payer.address] * 21})
        assert response.status_code == 400
        assert "per request has been exceeded" in response.json()
