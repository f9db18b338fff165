"""The players' patience and manners, against a small stand-in of the public API."""

import asyncio
import io
import random
from collections import Counter
from uuid import uuid4

import httpx
import pytest
from PIL import Image, ImageChops
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from memepool_chain.message import verify_bsm
from memepool_chain.network import REGTEST
from memepool_common.server import serving
from memepool_common.testing import until
from memepool_sandbox.players import crowd, memes
from memepool_sandbox.players.http import Api, ApiError
from memepool_sandbox.players.player import Player, UploadRejectedError


def problem(status: int, code: str, **headers: str) -> Response:
    return JSONResponse({"code": code, "detail": "no"}, status, headers)


class StandIn:
    """Answers as the gateway would; `busy` calls are refused that often before they work."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.busy: dict[str, list[Response]] = {}
        self.keys: dict[str, set[str]] = {}
        self.role = "viewer"
        self.tokens: set[str] = set()
        self.refreshes: set[str] = set()
        self.nonces: set[str] = set()
        self.round = 7
        self.deposits: list[int] = []
        self.entered: set[str] = set()
        self.statuses = ["processing", "ready"]
        self.vote_states = ["pending", "counted"]
        calls = {
            ("POST", "/auth/{call}"): self.auth,
            ("PATCH", "/auth/me"): self.change_role,
            ("POST", "/content/upload"): self.upload,
            ("GET", "/content/c1"): self.content,
            ("GET", "/content"): self.contents,
            ("POST", "/rounds/{id}/vote"): self.place_vote,
            ("GET", "/rounds/7/votes/v1"): self.read_vote,
            ("GET", "/rounds/current"): self.current,
            ("GET", "/rounds/{id}/submissions"): self.submissions,
            ("POST", "/rounds/current/submissions"): self.submit,
            ("GET", "/payments/balance"): self.balance,
            ("GET", "/payments/deposit-address"): self.deposit_address,
            ("POST", "/control/fund"): self.fund,
        }
        self.app = Starlette(
            routes=[Route(path, call, methods=[way]) for (way, path), call in calls.items()],
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=self.guard)],
        )

    async def guard(self, request: Request, go_on: RequestResponseEndpoint) -> Response:
        path = request.url.path
        self.calls[path] += 1
        if request.method == "POST":
            self.keys.setdefault(path, set()).add(request.headers["idempotency-key"])
        if self.busy.get(path):
            return self.busy[path].pop(0)
        authorized = request.headers.get("authorization", "")[7:] in self.tokens
        if not path.startswith(("/auth/c", "/auth/v", "/auth/s", "/control")) and not authorized:
            return problem(401, "token_invalid")
        return await go_on(request)

    async def change_role(self, request: Request) -> Response:
        self.role = (await request.json())["role"]
        return JSONResponse({})

    async def upload(self, request: Request) -> Response:
        async with request.form() as form:
            file = form["file"]
            assert isinstance(file, UploadFile)
            with Image.open(io.BytesIO(await file.read())) as image:
                assert image.size == (memes.WIDTH, memes.HEIGHT)
        return JSONResponse({"id": "c1", "status": "processing"}, 202)

    async def content(self, _request: Request) -> Response:
        status = self.statuses.pop(0)
        return JSONResponse({"id": "c1", "status": status, "rejection": {"code": "x"}})

    async def place_vote(self, request: Request) -> Response:
        assert request.headers["prefer"] == "wait=2"
        return JSONResponse(self.vote(), 202)

    async def read_vote(self, _request: Request) -> Response:
        return JSONResponse(self.vote())

    async def contents(self, _request: Request) -> Response:
        return JSONResponse({"items": [], "nextCursor": None})

    async def current(self, _request: Request) -> Response:
        return JSONResponse({"id": str(self.round), "state": "open"})

    async def submissions(self, _request: Request) -> Response:
        items = [{"contentId": meme, "creatorId": "somebody"} for meme in sorted(self.entered)]
        return JSONResponse({"items": items, "nextCursor": None})

    async def submit(self, request: Request) -> Response:
        self.entered.add((await request.json())["contentId"])
        return JSONResponse({}, 201)

    async def balance(self, _request: Request) -> Response:
        return JSONResponse({"available": sum(self.deposits), "pending": 0, "held": 0})

    async def deposit_address(self, _request: Request) -> Response:
        return JSONResponse({"address": "mDeposit"})

    async def fund(self, request: Request) -> Response:
        order = await request.json()
        assert order["address"] == "mDeposit"
        self.deposits.append(order["satoshis"])
        return JSONResponse({"txid": "ab" * 32})

    def vote(self) -> dict[str, str]:
        return {"id": "v1", "roundId": "7", "state": self.vote_states.pop(0)}

    async def auth(self, request: Request) -> Response:
        body = await request.json()
        match request.path_params["call"]:
            case "challenge":
                nonce = str(uuid4())
                self.nonces.add(nonce)
                return JSONResponse({"nonce": nonce, "message": f"sign {nonce}"}, 201)
            case "verify":
                nonce = body["nonce"]
                self.nonces.remove(nonce)
                address = body["walletAddress"]
                verify_bsm(f"sign {nonce}", body["signature"], address, REGTEST)
                return JSONResponse({"grant": "g", "user": {}})
        if "refreshToken" in body and body["refreshToken"] not in self.refreshes:
            return problem(401, "refresh_token_invalid")
        access, refresh = str(uuid4()), str(uuid4())
        self.tokens.add(access)
        self.refreshes.add(refresh)
        user = {"id": "u1", "role": self.role}
        tokens = {"accessToken": access, "refreshToken": refresh}
        return JSONResponse({**tokens, "user": user}, 201)


@pytest.fixture
def api() -> StandIn:
    return StandIn()


@pytest.fixture
def player(api: StandIn) -> Player:
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=api.app), base_url="http://gateway"
    )
    patient = Api(client, patience_s=5)
    return Player("p", b"seed", patient, patient)


async def test_signing_in_and_becoming_a_creator(api: StandIn, player: Player) -> None:
    await player.sign_in()
    assert (player.user_id, player.role) == ("u1", "viewer")
    await player.become_creator()
    assert player.role == "creator"
    before = api.calls.total()
    await player.become_creator()
    assert api.calls.total() == before


async def test_busy_answers_are_waited_out_with_one_key(api: StandIn, player: Player) -> None:
    await player.sign_in()
    api.busy["/rounds/7/vote"] = [
        problem(503, "service_unavailable"),
        problem(404, "not_known_yet"),
        problem(409, "request_in_progress"),
        problem(429, "too_many_requests"),
    ]
    vote = await player.vote("7", "c1", 5)
    assert vote["state"] == "counted"
    assert api.calls["/rounds/7/vote"] == 5
    assert len(api.keys["/rounds/7/vote"]) == 1


async def test_refusals_are_not_repeated(api: StandIn, player: Player) -> None:
    await player.sign_in()
    api.busy["/rounds/7/vote"] = [problem(409, "round_not_open")]
    with pytest.raises(ApiError) as caught:
        await player.vote("7", "c1", 5)
    assert (caught.value.status, caught.value.code) == (409, "round_not_open")
    assert api.calls["/rounds/7/vote"] == 1


async def test_patience_ends(api: StandIn) -> None:
    api.busy["/x"] = [problem(503, "service_unavailable") for _ in range(1_000)]
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=api.app), base_url="http://gateway"
    )
    with pytest.raises(ApiError, match="503 service_unavailable"):
        await Api(client, patience_s=0.5).call("GET", "/x")
    assert 1 < api.calls["/x"] < 10


async def test_an_expired_token_is_renewed(api: StandIn, player: Player) -> None:
    await player.sign_in()
    api.tokens.clear()
    assert (await player.vote("7", "c1", 5))["state"] == "counted"
    assert api.calls["/auth/verify"] == 1  # the refresh token was enough


async def test_a_dead_session_means_signing_in_again(api: StandIn, player: Player) -> None:
    await player.sign_in()
    api.tokens.clear()
    api.refreshes.clear()
    assert (await player.vote("7", "c1", 5))["state"] == "counted"
    assert api.calls["/auth/verify"] == 2


async def test_a_wasted_challenge_means_another_one(api: StandIn, player: Player) -> None:
    api.busy["/auth/verify"] = [problem(401, "challenge_unknown")]
    await player.sign_in()
    assert api.calls["/auth/challenge"] == 2
    api.busy["/auth/verify"] = [problem(401, "challenge_unknown") for _ in range(9)]
    with pytest.raises(ApiError):
        await player.sign_in()


async def test_uploads_are_followed_to_their_end(api: StandIn, player: Player) -> None:
    await player.sign_in()
    assert await player.upload() == "c1"
    api.statuses = ["processing", "rejected"]
    with pytest.raises(UploadRejectedError, match="rejected"):
        await player.upload()


async def test_a_crowd_plays_round_after_round(
    api: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowd, "WATCH_S", 0.01)
    monkeypatch.setattr(crowd, "PAUSE_AFTER_ERROR_S", 0.01)
    api.statuses = ["ready"] * 1_000
    api.vote_states = ["counted"] * 1_000
    api.busy["/rounds/7/vote"] = [problem(409, "round_not_open") for _ in range(3)]
    api.busy["/auth/verify"] = [Response(status_code=500)]
    stopping = asyncio.Event()
    async with serving(api.app, "127.0.0.1", 0) as port, asyncio.TaskGroup() as tasks:
        url = f"http://127.0.0.1:{port}"
        tasks.create_task(crowd.play(url, url, count=3, seed=b"s", stopping=stopping))
        await until(lambda: api.calls["/rounds/7/vote"] > 4)
        api.round = 8
        await until(lambda: api.calls["/rounds/8/vote"] > 2)
        stopping.set()
    assert api.entered == {"c1"}
    assert api.deposits
    assert set(api.deposits) == {crowd.DEPOSIT_SATS}


def test_memes_are_images_and_differ() -> None:
    pictures = []
    for seed in (1, 2, 2):
        rng = random.Random(seed)
        data = memes.draw(memes.caption(rng), rng)
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "JPEG"
            pictures.append(image.convert("RGB"))
    assert ImageChops.difference(pictures[0], pictures[1]).getbbox() is not None
    assert ImageChops.difference(pictures[1], pictures[2]).getbbox() is None
    assert memes.draw("x" * 300, random.Random(1))
