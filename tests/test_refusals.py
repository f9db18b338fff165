"""What people try who know the API: other people's things, wrong keys, hostile files, odd amounts.

Each attempt is refused by name, and nothing that it aimed at has changed.
"""

import asyncio
import base64
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from PIL import Image

from memepool_sandbox.players.player import Player, eventually
from memepool_sandbox.wallet import Wallet
from tests.conftest import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
DEPOSIT_SATS = 100_000
STAKE_SATS = 1_000
GENESIS_ADDRESS = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"  # of the real network


class Scene(NamedTuple):
    """A round with a meme of the owner's and a vote of the backer's; the rival has neither."""

    round_id: str
    meme: str
    vote_id: str
    owner: Player
    backer: Player
    rival: Player


@pytest.fixture(scope="module")
def mode() -> str:
    """The plain bus: what is refused never gets there."""
    return "once"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(world: World) -> Scene:
    owner, backer, rival = (
        await world.player("creator"),
        await world.player(deposit_sats=DEPOSIT_SATS),
        await world.player("creator"),
    )
    round_id = await world.next_round()
    await backer.until_available(DEPOSIT_SATS, 30)
    meme = await owner.upload()
    await owner.submit(meme, round_id)
    vote = await backer.vote(round_id, meme, STAKE_SATS)
    return Scene(round_id, meme, vote["id"], owner, backer, rival)


async def _ask(
    world: World, player: Player | None, method: str, path: str, **options: Any
) -> tuple[int, str]:
    """The status, and the problem's code: once, without any patience."""
    answer = await _answer(world, player, method, path, **options)
    return answer.status_code, answer.json()["code"] if answer.is_error else ""


async def _answer(
    world: World, player: Player | None, method: str, path: str, **options: Any
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {player._access_token}"} if player else {}
    return await world.http.request(method, path, headers=headers, **options)


async def test_other_peoples_things_are_theirs(world: World, scene: Scene) -> None:
    (deposit,) = (await scene.backer.call("GET", "/payments/deposits"))["items"]
    stake, *_ = (await scene.backer.call("GET", "/payments/history"))["items"]
    (session,) = (await scene.backer.call("GET", "/auth/sessions"))["items"]
    meme, entries = f"/content/{scene.meme}", f"/rounds/{scene.round_id}/submissions"
    for method, path, body, expected in (
        ("PUT", meme, {"title": "mine now"}, (403, "not_owner")),
        ("DELETE", meme, None, (403, "not_owner")),
        ("POST", entries, {"contentId": scene.meme}, (403, "not_yours")),
        ("DELETE", f"{entries}/{scene.meme}", None, (403, "not_yours")),
        ("GET", f"/rounds/{scene.round_id}/votes/{scene.vote_id}", None, (404, "vote_not_found")),
        ("GET", f"/payments/deposits/{deposit['id']}", None, (404, "deposit_unknown")),
        ("GET", f"/payments/transactions/{stake['id']}", None, (404, "transaction_unknown")),
        ("DELETE", f"/auth/sessions/{session['id']}", None, (404, "session_not_found")),
        ("PUT", f"/auth/users/{scene.owner.user_id}/role", {"role": "viewer"}, _ADMINS),
        ("PUT", f"/auth/users/{scene.owner.user_id}/suspension", {"reason": "x"}, _ADMINS),
        ("POST", f"/payments/accounts/{scene.backer.user_id}/freeze", None, _ADMINS),
        ("PATCH", "/auth/me", {"role": "admin"}, (403, "role_not_self_assignable")),
    ):
        got = await _ask(world, scene.rival, method, path, **({"json": body} if body else {}))
        assert got == expected, (method, path)
    assert (await world.get(entries))["items"][0]["contentId"] == scene.meme
    assert (await scene.backer.balance())["held"] == STAKE_SATS
    assert await scene.backer.call("GET", "/auth/me")


_ADMINS = (403, "role_required")


async def test_a_viewer_neither_uploads_nor_enters(world: World, scene: Scene) -> None:
    image = {"file": ("x.png", _picture("PNG"), "image/png")}
    assert await _ask(world, scene.backer, "POST", "/content/upload", files=image) == _ADMINS
    entry = {"contentId": scene.meme}
    path = f"/rounds/{scene.round_id}/submissions"
    assert await _ask(world, scene.backer, "POST", path, json=entry) == _ADMINS
    assert await _ask(world, None, "POST", path, json=entry) == (401, "token_required")


async def test_votes_that_may_not_be(world: World, scene: Scene) -> None:
    path = f"/rounds/{scene.round_id}/vote"
    foreign = await scene.rival.upload()
    good = {"contentId": scene.meme, "amount": STAKE_SATS}
    for who, where, body, expected in (
        (scene.owner, path, good, (403, "own_meme")),
        (None, path, good, (401, "token_required")),
        (scene.backer, path, good | {"contentId": foreign}, (404, "meme_not_in_round")),
        (scene.backer, path, good | {"contentId": str(uuid4())}, (404, "meme_not_in_round")),
        (scene.backer, "/rounds/999999/vote", good, (404, "round_not_found")),
        (scene.backer, path, good | {"contentid": "x"}, (422, "invalid_request")),
        *(
            (scene.backer, path, good | {"amount": amount}, (422, "invalid_request"))
            for amount in (-1, 0, 1.5, "5", True, 21 * 10**14 + 1, 2**63, 10**40)
        ),
    ):
        assert await _ask(world, who, "POST", where, json=body) == expected, (where, body)
    balance = await scene.backer.balance()
    assert (balance["available"], balance["held"]) == (DEPOSIT_SATS - STAKE_SATS, STAKE_SATS)


async def test_a_meme_is_entered_once(world: World, scene: Scene) -> None:
    path, again = f"/rounds/{scene.round_id}/submissions", {"contentId": scene.meme}
    assert await _ask(world, scene.owner, "POST", path, json=again) == (409, "already_entered")
    second = {"contentId": await scene.owner.upload()}
    assert await _ask(world, scene.owner, "POST", path, json=second) == (409, "already_entered")
    assert len((await world.get(path))["items"]) == 1


async def test_transfers_that_may_not_be(world: World, scene: Scene) -> None:
    before = await scene.backer.balance()
    good = {"recipient": scene.rival.user_id, "amount": 10}
    for body, expected in (
        *(
            (good | {"amount": amount}, (422, "invalid_request"))
            for amount in (-1, 0, 1.5, "5", True, None, 21 * 10**14 + 1, 2**63, 10**40)
        ),
        (good | {"amount": before["available"] + 1}, (422, "insufficient_funds")),
        (good | {"recipient": scene.backer.user_id}, (422, "self_transfer")),
        (good | {"recipient": scene.backer.wallet.address}, (422, "self_transfer")),
        (good | {"recipient": str(uuid4())}, (404, "not_known_yet")),
        (good | {"recipient": Wallet(b"nobody").address}, (404, "not_known_yet")),
        (good | {"recipient": "1nonsense"}, (422, "invalid_recipient")),
        (good | {"sender": scene.rival.user_id}, (422, "invalid_request")),
    ):
        got = await _ask(world, scene.backer, "POST", "/payments/transfer", json=body)
        assert got == expected, body
    assert await scene.backer.balance() == before
    assert (await scene.rival.balance())["available"] == 0
    surplus = good | {"sender": scene.rival.user_id}
    answer = await _answer(world, scene.backer, "POST", "/payments/transfer", json=surplus)
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/sender"]


async def test_signatures_that_prove_nothing(world: World) -> None:
    thief = Wallet(uuid4().bytes)

    async def verified(
        change: Callable[[bytes], dict[str, str]], signer: Wallet | None = None
    ) -> tuple[int, str]:
        """What a proof gets that is right but for `change`, which is told the signature."""
        wallet = Wallet(uuid4().bytes)
        address = {"walletAddress": wallet.address}
        challenge = (await world.http.post("/auth/challenge", json=address)).json()
        signature = (signer or wallet).sign(challenge["message"])
        proof = {**address, "nonce": challenge["nonce"], "signature": signature}
        body = proof | change(base64.b64decode(signature))
        return await _ask(world, None, "POST", "/auth/verify", json=body)

    def text(signature: bytes) -> dict[str, str]:
        return {"signature": base64.b64encode(signature).decode()}

    other = await world.http.post("/auth/challenge", json={"walletAddress": thief.address})
    malformed = (422, "malformed_signature")
    for change, expected in (
        (lambda _: {"signature": "not base64!"}, malformed),
        (lambda signed: text(signed[:-1]), malformed),
        (lambda signed: text(b"\x00" + signed[1:]), malformed),
        (lambda signed: text(b"\x27" + signed[1:]), (422, "segwit_signature")),
        (lambda signed: text(signed[:1] + bytes(64)), malformed),
        (lambda _: {"signature": ""}, (422, "invalid_request")),
        (lambda _: {"scheme": "ed25519"}, (422, "scheme_not_accepted")),
        (lambda _: {"nonce": "invented"}, (401, "nonce_unknown")),
        (lambda _: {"nonce": other.json()["nonce"]}, (401, "nonce_foreign")),
        (lambda _: {"walletAddress": "1nonsense"}, (422, "malformed_address")),
        (lambda _: {"walletAddress": GENESIS_ADDRESS}, (422, "wrong_network")),
        (lambda _: {}, (200, "")),
    ):
        assert await verified(change) == expected
    assert await verified(lambda _: {}, thief) == (401, "signature_mismatch")


async def test_a_challenge_is_answered_once(world: World) -> None:
    wallet = Wallet(uuid4().bytes)
    address = {"walletAddress": wallet.address}
    challenge = (await world.http.post("/auth/challenge", json=address)).json()
    proof = {
        **address,
        "nonce": challenge["nonce"],
        "signature": wallet.sign(challenge["message"]),
    }
    assert await _ask(world, None, "POST", "/auth/verify", json=proof) == (200, "")
    assert await _ask(world, None, "POST", "/auth/verify", json=proof) == (401, "nonce_used")


def _picture(kind: str, size: tuple[int, int] = (320, 240)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 90).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def _bomb() -> bytes:
    """A small PNG that says of itself to be of 3.6 billion pixels."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1_000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


async def test_hostile_files_become_no_memes(world: World, scene: Scene) -> None:
    photo = _picture("JPEG")
    refused = {
        "nothing": (b"", (422, "empty_file")),
        "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", _NO_IMAGE),
        "HTML": (b"<script>alert(1)</script>", _NO_IMAGE),
        "a film": (b"\x00\x00\x00\x18ftypmp42" + bytes(2_000), _NO_IMAGE),
        "too large": (photo[:3] + bytes(16 * 1024 * 1024), (413, "file_too_large")),
    }
    for about, (data, expected) in refused.items():
        files = {"file": ("innocent.jpg", data, "image/jpeg")}
        got = await _ask(world, scene.rival, "POST", "/content/upload", files=files)
        assert got == expected, about
    rejected = {
        "cut in the middle": photo[: len(photo) // 2],
        "only a signature": photo[:4],
        "noise behind a signature": photo[:20] + bytes(range(256)) * 40,
        "a bomb": _bomb(),
        "a broken GIF": b"GIF89a" + b"\xff" * 500,
        "a broken WebP": b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\xff" * 500,
    }
    outcomes = await asyncio.gather(
        *(_processed(world, scene.rival, data) for data in rejected.values())
    )
    for about, content in zip(rejected, outcomes, strict=True):
        assert content["status"] == "rejected", about
        assert content["rejection"]["code"], about
        assert content["rejection"]["detail"], about
        full = f"/content/{content['id']}/media/full"
        assert (await _ask(world, scene.rival, "GET", full))[0] in {404, 409}, about


_NO_IMAGE = (415, "unsupported_format")


async def _processed(world: World, player: Player, data: bytes) -> dict[str, Any]:
    files = {"file": ("innocent.jpg", data, "image/jpeg")}
    answer = await _answer(world, player, "POST", "/content/upload", files=files)
    assert answer.status_code == 202, answer.text
    path = answer.headers["location"]

    async def done() -> dict[str, Any] | None:
        content = await player.call("GET", path)
        return None if content["status"] == "processing" else content

    return await eventually(done, 30)


async def test_what_is_bad_in_a_url_is_named(world: World) -> None:
    for path, expected in (
        ("/nowhere", (404, "not_found")),
        ("/v1/v1/rounds", (404, "not_found")),
        ("/rounds/", (404, "not_found")),
        ("/internal/auth-state", (404, "not_found")),
        ("/metrics", (404, "not_found")),
        ("/rounds/current/", (404, "not_found")),
        ("/rounds/999999", (404, "round_not_found")),
        (f"/rounds/{'9' * 30}", (422, "invalid_request")),
        ("/rounds?limit=0", (422, "invalid_request")),
        ("/rounds?limit=101", (422, "invalid_request")),
        ("/rounds?cursor=forged", (422, "invalid_cursor")),
    ):
        assert await _ask(world, None, "GET", path) == expected, path
    assert await _ask(world, None, "PUT", "/rounds") == (405, "method_not_allowed")
    assert await _ask(world, None, "TRACE", "/rounds") == (405, "method_not_allowed")


async def test_a_closed_round_takes_nothing_more(world: World, scene: Scene) -> None:
    """The last test: it closes the scene's round."""
    following = await world.next_round()
    await world.settled(scene.round_id)
    vote = {"contentId": scene.meme, "amount": STAKE_SATS}
    closed = (409, "round_not_open")
    path = f"/rounds/{scene.round_id}"
    assert await _ask(world, scene.backer, "POST", f"{path}/vote", json=vote) == closed
    late = {"contentId": (await scene.rival.ready_memes())[0]}
    assert await _ask(world, scene.rival, "POST", f"{path}/submissions", json=late) == closed
    entry = f"{path}/submissions/{scene.meme}"
    assert await _ask(world, scene.owner, "DELETE", entry) == (409, "round_tallied")
    in_another = await _ask(world, scene.backer, "POST", f"/rounds/{following}/vote", json=vote)
    assert in_another == (404, "meme_not_in_round")
    assert await _ask(world, None, "GET", f"/rounds/{following}/results") == (
        409,
        "results_not_ready",
    )
    await world.adds_up()
