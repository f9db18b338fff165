"""The control API: what it does, and whom it refuses."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from memepool_chain.address import address_of
from memepool_chain.keys import PrivateKey
from memepool_chain.network import REGTEST
from memepool_common.server import serving
from memepool_sandbox.chain.node import PREMINE_BLOCKS, Node
from memepool_sandbox.chain_app import create_chain_app
from memepool_sandbox.faults import Faults

ADDRESS = address_of(PrivateKey.from_bytes(b"\x07" * 32).public_key, REGTEST)
INFO = "/v1/bsv/main/chain/info"


@pytest_asyncio.fixture
async def http(node: Node) -> AsyncIterator[httpx.AsyncClient]:
    app = create_chain_app(node, faults=Faults(slow_s=0.2))
    async with (
        serving(app, "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield client


async def control(http: httpx.AsyncClient, call: str, **command: Any) -> dict[str, Any]:
    response = await http.post(f"/control/{call}", json=command)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_mine_fund_reorg_and_double_spend(http: httpx.AsyncClient, node: Node) -> None:
    funded = await control(http, "fund", address=ADDRESS, satoshis=7_000)
    mined = await control(http, "mine", blocks=2)
    assert mined["height"] == PREMINE_BLOCKS + 2
    assert node.branches.tip.block.hash == mined["hashes"][-1]
    assert node.proof(funded["txid"]) is not None
    await control(http, "reorg", depth=2)
    assert node.proof(funded["txid"]) is None
    assert (await control(http, "mine"))["height"] == PREMINE_BLOCKS + 4
    rival = await control(http, "double-spend", txid=funded["txid"])
    assert node.view.known(funded["txid"]) is None
    assert node.view.known(rival["txid"]) is not None
    await control(http, "reorg", depth=1, keepTransactions=False)


@pytest.mark.parametrize(
    ("call", "command", "status", "code"),
    [
        ("mine", {"blocks": 0}, 422, "invalid_request"),
        ("mine", {"blocks": "1"}, 422, "invalid_request"),
        ("mine", {"blocks": 1, "fast": True}, 422, "invalid_request"),
        ("mine", [], 422, "invalid_request"),
        ("fund", {"address": ADDRESS}, 422, "invalid_request"),
        ("fund", {"address": ADDRESS, "satoshis": -1}, 422, "invalid_request"),
        ("fund", {"address": ADDRESS, "satoshis": 10**15}, 422, "invalid_request"),
        ("fund", {"address": "nonsense", "satoshis": 1}, 422, "malformed_address"),
        ("reorg", {"depth": 50}, 422, "reorg_too_deep"),
        ("double-spend", {"txid": "ab" * 32}, 404, "unknown_transaction"),
        ("double-spend", {"txid": "xyz"}, 422, "invalid_request"),
        ("fail", {"path": "/v1", "mode": "explode"}, 422, "invalid_request"),
        ("fail", {"path": "v1", "mode": "500"}, 422, "invalid_request"),
    ],
)
async def test_bad_commands_are_explained(
    http: httpx.AsyncClient, node: Node, call: str, command: object, status: int, code: str
) -> None:
    response = await http.post(f"/control/{call}", json=command)
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code)
    assert problem["detail"]
    assert node.branches.tip.height == PREMINE_BLOCKS


async def test_only_json_and_only_loopback_hosts(http: httpx.AsyncClient, node: Node) -> None:
    form = await http.post("/control/mine", data={"blocks": "1"})
    assert (form.status_code, form.json()["code"]) == (415, "unsupported_media_type")
    bare = await http.post("/control/mine")
    assert bare.status_code == 415
    for host in ("evil.example", "evil.example:8090", "127.0.0.1.evil.example", ""):
        response = await http.post("/control/mine", json={}, headers={"Host": host})
        assert response.status_code in {400, 421}, host
    for host in ("localhost:8090", "127.0.0.1", "[::1]:8090", "[::1]"):
        response = await http.post("/control/mine", json={}, headers={"Host": host})
        assert response.status_code == 200, host
    assert (await http.get("/control/mine")).status_code == 405
    assert node.branches.tip.height == PREMINE_BLOCKS + 4


async def test_faults_happen_as_often_as_ordered(http: httpx.AsyncClient) -> None:
    await control(http, "fail", path="/v1/bsv/main/chain", mode="500", times=2)
    statuses = [(await http.get(INFO)).status_code for _ in range(3)]
    assert statuses == [500, 500, 200]
    await control(http, "fail", path=INFO, mode="429")
    assert (await http.get(INFO)).json() == "Too Many Requests"
    await control(http, "fail", path=INFO, mode="garbage")
    garbage = await http.get(INFO)
    assert garbage.status_code == 200
    with pytest.raises(ValueError, match="Expecting value"):
        garbage.json()
    await control(http, "fail", path=INFO, mode="slow")
    assert (await http.get(INFO)).status_code == 200
    await control(http, "fail", path=INFO, mode="timeout")
    with pytest.raises(httpx.ReadTimeout):
        await http.get(INFO, timeout=0.1)
    await control(http, "fail", path=INFO, mode="500", times=5)
    await control(http, "fail", path=INFO, mode="500", times=0)
    assert (await http.get(INFO)).status_code == 200
