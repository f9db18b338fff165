"""Asking the simulated WhatsOnChain, over real HTTP."""

from typing import Any

import httpx

from memepool_chain.tx import TxOut
from memepool_sandbox.wallet import Wallet

Http = httpx.AsyncClient


async def get(woc: Http, path: str, **query: Any) -> Any:
    response = await woc.get(path, params=query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json; charset=UTF-8"
    assert response.text.endswith("\n")
    return response.json()


async def post(woc: Http, path: str, body: object) -> Any:
    response = await woc.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def spend(payer: Wallet, txid: str, satoshis: int, paid: int = 1_000) -> bytes:
    outputs = [TxOut(paid, payer.script), TxOut(0, b"\x00\x6a\x08memepool")]
    return payer.pay([payer.coin(txid, 0, satoshis)], outputs).serialize()
