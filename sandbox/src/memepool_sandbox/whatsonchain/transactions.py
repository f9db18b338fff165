"""Transactions: broadcasting them, reading them, proving them, and who spends their outputs."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memepool_sandbox.chain.node import Node
from memepool_sandbox.chain.rules import RefusedError
from memepool_sandbox.chain.view import Known, Outpoint
from memepool_sandbox.whatsonchain.answers import (
    TOO_MANY_TXS,
    Refusal,
    answer,
    bulk_items,
    checked_txid,
    empty,
    json_object,
    text,
)
from memepool_sandbox.whatsonchain.shapes import place_json, tx_json

_TOO_MANY_UTXOS = "Maximum number of utxos per request has been exceeded"
_CONFIRMED, _UNCONFIRMED = "confirmed", "unconfirmed"


class TransactionRoutes:
    """Everything under /tx, /txs and /utxos."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._view = node.view

    def routes(self) -> list[Route]:
        """The routes, without the network's prefix."""
        return [
            Route("/tx/raw", self.broadcast, methods=["POST"]),
            Route("/tx/hash/{txid}", self.transaction),
            Route("/tx/{txid}/hex", self.raw_hex),
            Route("/tx/{txid}/bin", self.raw_bytes),
            Route("/tx/{txid}/out/{vout:int}/hex", self.output_hex),
            Route("/tx/{txid}/proof/tsc", self.proof),
            Route("/tx/{txid}/{vout:int}/spent", self.spent),
            Route("/tx/{txid}/{vout:int}/{state}/spent", self.spent),
            Route("/txs", self.bulk_transactions, methods=["POST"]),
            Route("/txs/hex", self.bulk_hex, methods=["POST"]),
            Route("/txs/status", self.bulk_status, methods=["POST"]),
            Route("/utxos/spent", self.bulk_spent, methods=["POST"]),
        ]

    async def broadcast(self, request: Request) -> Response:
        txhex = (await json_object(request)).get("txhex", "")
        if txhex == "":
            return answer("")  # so does the original
        try:
            return answer(self._node.submit(_raw(txhex)))
        except RefusedError as error:
            raise Refusal(400, f"unexpected response code 500: {error}") from error

    async def transaction(self, request: Request) -> Response:
        known = self._known(request)
        return empty(404) if known is None else answer(tx_json(self._node, known))

    async def raw_hex(self, request: Request) -> Response:
        known = self._known(request)
        return empty(404) if known is None else text(known.tx.serialize().hex())

    async def raw_bytes(self, request: Request) -> Response:
        known = self._known(request)
        if known is None:
            return empty(404)
        return Response(known.tx.serialize(), media_type="application/octet-stream")

    async def output_hex(self, request: Request) -> Response:
        txid, vout = checked_txid(request.path_params["txid"]), request.path_params["vout"]
        out = self._view.output(Outpoint(txid, vout))
        return empty(404) if out is None else text(out.script.hex())

    async def proof(self, request: Request) -> Response:
        proof = self._node.proof(checked_txid(request.path_params["txid"]))
        if proof is None:
            return answer(None)
        entry, index, nodes = proof
        txid = entry.block.txids[index]
        return answer(
            [{"index": index, "txOrId": txid, "target": entry.block.hash, "nodes": nodes}]
        )

    async def spent(self, request: Request) -> Response:
        outpoint = Outpoint(checked_txid(request.path_params["txid"]), request.path_params["vout"])
        if self._view.output(outpoint) is None:
            return empty(400)
        state = request.path_params.get("state")
        spent_in = self._spent_in(outpoint)
        if spent_in is None or state not in (None, spent_in["status"]):
            return empty(404)
        return answer(spent_in)

    async def bulk_transactions(self, request: Request) -> Response:
        return answer(
            [
                _unknown(txid) if known is None else tx_json(self._node, known, bulk=True)
                for txid, known in await self._bulk(request)
            ]
        )

    async def bulk_hex(self, request: Request) -> Response:
        return answer(
            [
                _unknown(txid)
                if known is None
                else {
                    "txid": txid,
                    "hex": known.tx.serialize().hex(),
                    **place_json(self._node, known),
                }
                for txid, known in await self._bulk(request)
            ]
        )

    async def bulk_status(self, request: Request) -> Response:
        return answer(
            [
                _unknown(txid) if known is None else {"txid": txid, **place_json(self._node, known)}
                for txid, known in await self._bulk(request)
            ]
        )

    async def bulk_spent(self, request: Request) -> Response:
        utxos = await bulk_items(request, "utxos", _TOO_MANY_UTXOS)
        return answer([self._utxo_spent(_outpoint(utxo)) for utxo in utxos])

    def _utxo_spent(self, outpoint: Outpoint) -> dict[str, Any]:
        utxo = {"txid": outpoint.txid, "vout": outpoint.vout}
        if self._view.output(outpoint) is None:
            return {"utxo": utxo, "error": "unknown"}
        spent_in = self._spent_in(outpoint)
        return {"utxo": utxo, **({"spentIn": spent_in} if spent_in else {}), "error": ""}

    def _spent_in(self, outpoint: Outpoint) -> dict[str, Any] | None:
        spending = self._view.spender(outpoint)
        known = self._view.known(spending.txid) if spending else None
        if spending is None or known is None:
            return None
        status = _UNCONFIRMED if known.height is None else _CONFIRMED
        return {"txid": spending.txid, "vin": spending.vin, "status": status}

    def _known(self, request: Request) -> Known | None:
        return self._view.known(checked_txid(request.path_params["txid"]))

    async def _bulk(self, request: Request) -> list[tuple[str, Known | None]]:
        items = await bulk_items(request, "txids", TOO_MANY_TXS)
        txids = [checked_txid(item) for item in items]
        return [(txid, self._view.known(txid)) for txid in txids]


def _raw(txhex: object) -> bytes:
    try:
        return bytes.fromhex(txhex) if isinstance(txhex, str) else b""
    except ValueError:
        return b""


def _outpoint(utxo: object) -> Outpoint:
    match utxo:
        case {"txid": str(txid), "vout": int(vout)} if vout >= 0:
            return Outpoint(checked_txid(txid), vout)
        case _:
            raise Refusal(400, "a utxo is txid and vout")


def _unknown(txid: str) -> dict[str, str]:
    return {"txid": txid, "error": "unknown"}
