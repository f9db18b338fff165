"""Coins, balances and histories of addresses and of script hashes, single and in bulk."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memepool_chain.address import AddressError, decode_p2pkh, p2pkh_script, script_hash
from memepool_chain.hashing import is_hash_hex
from memepool_sandbox.chain.node import Node
from memepool_sandbox.chain.view import Known, Outpoint
from memepool_sandbox.whatsonchain.answers import (
    TOO_MANY_ADDRESSES,
    Refusal,
    answer,
    bulk_items,
    descending,
    query_int,
)

_NOT_CONVERTIBLE = "unable to convert address to scripthash"
_TOO_MANY_SCRIPTS = "Maximum number of scripts per request has been exceeded"
_ALL_UNSPENT_PAGE = 1_000
_UNSPENT_PAGE_MAX = 10_000
_HISTORY_PAGE = 100
_HISTORY_PAGE_MAX = 1_000
_BULK_CONFIRMED_ITEMS = 20
_BULK_UNCONFIRMED_ITEMS = 100
_HEIGHT_MAX = 10**9


@dataclass(frozen=True)
class Subject:
    """Whose coins are asked for; an address names the hash of its P2PKH script."""

    address: str | None
    script: str

    def named(self) -> dict[str, Any]:
        """How an answer begins."""
        address = {} if self.address is None else {"address": self.address}
        return {**address, "script": self.script}


class Place(NamedTuple):
    """The order of items, and what a page token says: height, arrival, output."""

    height: int
    order: int
    vout: int


Item = tuple[Place, dict[str, Any]]
Report = Callable[[Subject], dict[str, Any]]


class ScriptRoutes:
    """Everything under /address, /addresses, /script and /scripts."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._view = node.view

    def routes(self) -> list[Route]:
        """The routes, without the network's prefix."""
        routes = [
            Route("/address/{subject}/unspent", self.legacy_unspent),
            Route("/address/{subject}/history", self.legacy_history),
            Route("/address/{subject}/balance", self.legacy_balance),
            Route("/addresses/unspent", self.legacy_bulk_unspent, methods=["POST"]),
        ]
        for kind in ("address", "script"):
            one, many = f"/{kind}/{{subject}}", "/addresses" if kind == "address" else "/scripts"
            routes += [
                Route(f"{one}/unspent/all", self.unspent_all),
                Route(f"{one}/confirmed/unspent", self.confirmed_unspent),
                Route(f"{one}/unconfirmed/unspent", self.single(self._unconfirmed_unspent)),
                Route(f"{one}/confirmed/history", self.confirmed_history),
                Route(f"{one}/unconfirmed/history", self.single(self._unconfirmed_history)),
                Route(f"{one}/confirmed/balance", self.single(self._confirmed_balance)),
                Route(f"{one}/unconfirmed/balance", self.single(self._unconfirmed_balance)),
                self._bulk(f"{many}/confirmed/unspent", self._bulk_confirmed_unspent),
                self._bulk(f"{many}/unconfirmed/unspent", self._bulk_unconfirmed_unspent),
                self._bulk(f"{many}/confirmed/history", self._bulk_confirmed_history),
                self._bulk(f"{many}/unconfirmed/history", self._unconfirmed_history),
                self._bulk(f"{many}/history/all", self._history_all),
                self._bulk(f"{many}/confirmed/balance", self._confirmed_balance),
                self._bulk(f"{many}/unconfirmed/balance", self._unconfirmed_balance),
            ]
        return routes

    # Single calls that page

    async def unspent_all(self, request: Request) -> Response:
        subject = self._subject(request)
        confirmed, token = _page(request, self._confirmed(subject), _ALL_UNSPENT_PAGE)
        mempool = [] if "token" in request.query_params else self._unconfirmed(subject)
        result = [item | {"status": "confirmed"} for item in confirmed]
        result += [item | {"status": "unconfirmed"} for _, item in mempool]
        return answer(_result(subject, result, token))

    async def confirmed_unspent(self, request: Request) -> Response:
        subject = self._subject(request)
        limit = query_int(request, "limit", _UNSPENT_PAGE_MAX, 1, _UNSPENT_PAGE_MAX)
        return answer(_result(subject, *_page(request, self._confirmed(subject), limit)))

    async def confirmed_history(self, request: Request) -> Response:
        subject = self._subject(request)
        limit = query_int(request, "limit", _HISTORY_PAGE, 1, _HISTORY_PAGE_MAX)
        newest_first = descending(request)
        items = self._history(subject, confirmed=True)
        if "height" in request.query_params:
            start = query_int(request, "height", 0, 0, _HEIGHT_MAX)
            items = [
                i for i in items if (i[0].height <= start) == newest_first or i[0].height == start
            ]
        return answer(_result(subject, *_page(request, items, limit, newest_first=newest_first)))

    def single(self, report: Report) -> Callable[[Request], Any]:
        """The endpoint that reports on the one subject of the path."""

        async def endpoint(request: Request) -> Response:
            return answer(report(self._subject(request)))

        return endpoint

    # Bulk calls: at most twenty subjects, and few items for each

    def _bulk(self, path: str, report: Report) -> Route:
        field = "addresses" if path.startswith("/addresses") else "scripts"
        too_many = TOO_MANY_ADDRESSES if field == "addresses" else _TOO_MANY_SCRIPTS

        async def endpoint(request: Request) -> Response:
            names = await bulk_items(request, field, too_many)
            return answer([self._report(name, field, report) for name in names])

        return Route(path, endpoint, methods=["POST"])

    def _report(self, name: object, field: str, report: Report) -> dict[str, Any]:
        try:
            subject = self._parse(name, is_address=field == "addresses")
        except Refusal:
            key = "address" if field == "addresses" else "script"
            return {key: name, "result": None, "error": _NOT_CONVERTIBLE}
        return report(subject)

    def _bulk_confirmed_unspent(self, subject: Subject) -> dict[str, Any]:
        return _result(subject, *_cut(self._confirmed(subject), _BULK_CONFIRMED_ITEMS))

    def _bulk_unconfirmed_unspent(self, subject: Subject) -> dict[str, Any]:
        items, _ = _cut(self._unconfirmed(subject), _BULK_UNCONFIRMED_ITEMS)
        return _result(subject, items, None)

    def _bulk_confirmed_history(self, subject: Subject) -> dict[str, Any]:
        items = self._history(subject, confirmed=True)[::-1]
        return _result(subject, *_cut(items, _BULK_CONFIRMED_ITEMS))

    def _history_all(self, subject: Subject) -> dict[str, Any]:
        confirmed = [item for _, item in self._history(subject, confirmed=True)[::-1]]
        mempool = [item for _, item in self._history(subject, confirmed=False)]
        return {
            **subject.named(),
            "unconfirmed": {"result": mempool, "error": ""},
            "confirmed": {"result": confirmed[:_BULK_CONFIRMED_ITEMS], "error": ""},
        }

    # Reports that are the same in single and bulk calls

    def _unconfirmed_unspent(self, subject: Subject) -> dict[str, Any]:
        return _result(subject, [item for _, item in self._unconfirmed(subject)], None)

    def _unconfirmed_history(self, subject: Subject) -> dict[str, Any]:
        items = self._history(subject, confirmed=False)
        return _result(subject, [item for _, item in items], None)

    def _confirmed_balance(self, subject: Subject) -> dict[str, Any]:
        total = sum(item["value"] for _, item in self._confirmed(subject))
        return {**subject.named(), "confirmed": total, "error": ""}

    def _unconfirmed_balance(self, subject: Subject) -> dict[str, Any]:
        """What the mempool would change: may be negative."""
        received = sum(
            item["value"]
            for _, item in self._unconfirmed(subject)
            if not item["isSpentInMempoolTx"]
        )
        spent = sum(
            item["value"] for _, item in self._confirmed(subject) if item["isSpentInMempoolTx"]
        )
        return {**subject.named(), "unconfirmed": received - spent, "error": ""}

    # Legacy calls: bare arrays

    async def legacy_unspent(self, request: Request) -> Response:
        return answer(self._legacy_coins(self._subject(request)))

    async def legacy_history(self, request: Request) -> Response:
        subject = self._subject(request)
        both = self._history(subject, confirmed=True) + self._history(subject, confirmed=False)
        return answer([{"tx_hash": i["tx_hash"], "height": i.get("height", 0)} for _, i in both])

    async def legacy_balance(self, request: Request) -> Response:
        subject = self._subject(request)
        confirmed = self._confirmed_balance(subject)["confirmed"]
        unconfirmed = self._unconfirmed_balance(subject)["unconfirmed"]
        return answer({"confirmed": confirmed, "unconfirmed": unconfirmed})

    async def legacy_bulk_unspent(self, request: Request) -> Response:
        """Blind to the mempool, as the original has become."""
        names = await bulk_items(request, "addresses", TOO_MANY_ADDRESSES)
        answers: list[dict[str, Any]] = []
        for name in names:
            try:
                coins = self._legacy_coins(self._parse(name, is_address=True), mempool=False)
                answers.append({"address": name, "unspent": coins, "error": ""})
            except Refusal:
                answers.append({"address": name, "unspent": None, "error": _NOT_CONVERTIBLE})
        return answer(answers)

    def _legacy_coins(self, subject: Subject, *, mempool: bool = True) -> list[dict[str, Any]]:
        items = self._confirmed(subject) + (self._unconfirmed(subject) if mempool else [])
        keys = ("height", "tx_pos", "tx_hash", "value")
        return [
            {key: item.get(key, 0) for key in keys}
            for _, item in items
            if not item["isSpentInMempoolTx"]
        ]

    # Subjects and their items

    def _subject(self, request: Request) -> Subject:
        is_address = "/address/" in request.url.path
        return self._parse(request.path_params["subject"], is_address=is_address)

    def _parse(self, name: object, *, is_address: bool) -> Subject:
        if not isinstance(name, str):
            raise Refusal(400, _NOT_CONVERTIBLE)
        if not is_address:
            if not is_hash_hex(name.lower()):
                raise Refusal(400, "invalid scripthash")
            return Subject(None, name.lower())
        try:
            script = p2pkh_script(decode_p2pkh(name, self._node.network))
        except AddressError as error:
            raise Refusal(400, _NOT_CONVERTIBLE) from error
        return Subject(name, script_hash(script))

    def _coins(self, subject: Subject, *, confirmed: bool) -> Iterable[tuple[Known, int, bool]]:
        """Outputs that no block spends: transaction, index, whether the mempool spends it."""
        for known in self._view.touching(subject.script):
            if (known.height is not None) != confirmed:
                continue
            for vout, out in enumerate(known.tx.outputs):
                if script_hash(out.script) != subject.script:
                    continue
                spending = self._view.spender(Outpoint(known.tx.txid, vout))
                spender = self._view.known(spending.txid) if spending else None
                if spender is None or spender.height is None:
                    yield known, vout, spender is not None

    def _confirmed(self, subject: Subject) -> list[Item]:
        items: list[Item] = []
        for known, vout, in_mempool in self._coins(subject, confirmed=True):
            height = known.height or 0
            item = {"height": height, **_coin(known, vout), "isSpentInMempoolTx": in_mempool}
            items.append((Place(height, known.order, vout), item))
        return sorted(items, key=lambda item: item[0])

    def _unconfirmed(self, subject: Subject) -> list[Item]:
        return [
            (
                Place(0, known.order, vout),
                {
                    **_coin(known, vout),
                    "isSpentInMempoolTx": in_mempool,
                    "hex": known.tx.outputs[vout].script.hex(),
                },
            )
            for known, vout, in_mempool in self._coins(subject, confirmed=False)
        ]

    def _history(self, subject: Subject, *, confirmed: bool) -> list[Item]:
        """Transactions that pay or spend the script, oldest first."""
        items: list[Item] = []
        for known in self._view.touching(subject.script):
            if (known.height is not None) == confirmed:
                height = {} if known.height is None else {"height": known.height}
                place = Place(known.height or 0, known.order, 0)
                items.append((place, {"tx_hash": known.tx.txid, **height}))
        return sorted(items, key=lambda item: item[0])


def _coin(known: Known, vout: int) -> dict[str, Any]:
    value = known.tx.outputs[vout].satoshis
    return {"tx_pos": vout, "tx_hash": known.tx.txid, "value": value}


def _result(subject: Subject, items: list[dict[str, Any]], token: str | None) -> dict[str, Any]:
    """Nothing found is null, not an empty list, as in the original's newer calls."""
    more = {} if token is None else {"nextPageToken": token}
    return {**subject.named(), "result": items or None, "error": "", **more}


def _page(
    request: Request, items: list[Item], limit: int, *, newest_first: bool = False
) -> tuple[list[dict[str, Any]], str | None]:
    """The page behind the request's token, and the token of the next one."""
    ordered = items[::-1] if newest_first else items
    token = request.query_params.get("token")
    if token is not None:
        last = _place(token)
        ordered = [i for i in ordered if (i[0] < last if newest_first else i[0] > last)]
    return _cut(ordered, limit)


def _cut(items: list[Item], limit: int) -> tuple[list[dict[str, Any]], str | None]:
    shown = items[:limit]
    token = ".".join(map(str, shown[-1][0])).encode().hex() if len(items) > limit else None
    return [item for _, item in shown], token


def _place(token: str) -> Place:
    try:
        height, order, vout = bytes.fromhex(token).decode().split(".")
        return Place(int(height), int(order), int(vout))
    except ValueError as error:
        raise Refusal(400, "invalid token") from error
