"""One simulated person: a wallet, a session, and what people do with the public API."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx

from memepool_sandbox.players import memes
from memepool_sandbox.players.http import Api, ApiError
from memepool_sandbox.wallet import Wallet

POLL_S = 0.3
POLL_MAX_S = 1.5
UPLOAD_TIMEOUT_S = 60.0
VOTE_WAIT_S = 2
VOTE_TIMEOUT_S = 45.0
_SIGN_IN_ATTEMPTS = 4
_UNAUTHORIZED = 401

Answer = dict[str, Any]
T = TypeVar("T")


class UploadRejectedError(Exception):
    """The image was not accepted; says why."""


TROUBLE = (ApiError, httpx.HTTPError, UploadRejectedError, TimeoutError)
"""What may go wrong with any action of a player, through no fault of the program."""


class Player:
    """Acts through `api`; coins come from `control`, the sandbox's faucet."""

    def __init__(self, name: str, seed: bytes, api: Api, control: Api) -> None:
        self.name = name
        self.wallet = Wallet(seed)
        self.rng = random.Random(seed)
        self.user_id = ""
        self.role = ""
        self._api = api
        self._control = control
        self._access_token = ""
        self._refresh_token = ""

    # Signing in

    async def sign_in(self) -> None:
        """Prove the wallet and open a session. A lost answer wastes a challenge: begin again."""
        for attempt in range(_SIGN_IN_ATTEMPTS):
            try:
                await self._sign_in_once()
            except ApiError as error:
                if error.status != _UNAUTHORIZED or attempt == _SIGN_IN_ATTEMPTS - 1:
                    raise
            else:
                return

    async def _sign_in_once(self) -> None:
        address = {"walletAddress": self.wallet.address}
        challenge = await self._api.call("POST", "/auth/challenge", json=address)
        signature = self.wallet.sign(challenge["message"])
        proof = {**address, "nonce": challenge["nonce"], "signature": signature}
        verified = await self._api.call("POST", "/auth/verify", json=proof)
        self._take(await self._api.call("POST", "/auth/session", json={"grant": verified["grant"]}))

    async def become_creator(self) -> None:
        """Ask for the role and get a token that has it."""
        if self.role == "viewer":
            await self.call("PATCH", "/auth/me", json={"role": "creator"})
            await self._renew()

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        """A call with the access token, which is renewed when it has run out."""
        try:
            return await self._api.call(method, path, token=self._access_token, **options)
        except ApiError as error:
            if error.status != _UNAUTHORIZED:
                raise
        await self._renew()
        return await self._api.call(method, path, token=self._access_token, **options)

    async def _renew(self) -> None:
        """A refresh token works once and ends its family when shown twice: never repeat that."""
        refresh = {"refreshToken": self._refresh_token}
        try:
            self._take(
                await self._api.call("POST", "/auth/session", json=refresh, repeatable=False)
            )
        except ApiError:
            await self.sign_in()

    def _take(self, session: Answer) -> None:
        self._access_token = session["accessToken"]
        self._refresh_token = session["refreshToken"]
        self.user_id = session["user"]["id"]
        self.role = session["user"]["role"]

    # Memes

    async def upload(self) -> str:
        """Draw a meme and upload it; its content id once it is ready.

        Raises UploadRejectedError, and TimeoutError when processing takes too long.
        """
        title = memes.caption(self.rng)
        image = await asyncio.to_thread(memes.draw, title, self.rng)
        files = {"file": (f"{self.name}.jpg", image, "image/jpeg")}
        content = await self.call(
            "POST", "/content/upload", files=files, data={"title": title, "tags": "sandbox"}
        )
        path = f"/content/{content['id']}"

        async def processed() -> Answer | None:
            nonlocal content
            content = await self.call("GET", path)
            return None if content["status"] == "processing" else content

        done = await eventually(processed, UPLOAD_TIMEOUT_S)
        if done["status"] != "ready":
            raise UploadRejectedError(f"{path} is {done['status']}: {done.get('rejection')}")
        return str(done["id"])

    async def ready_memes(self) -> list[str]:
        """The ids of the player's memes that can be entered."""
        query = {"creatorId": self.user_id, "status": "ready"}
        page = await self.call("GET", "/content", params=query)
        return [content["id"] for content in page["items"]]

    async def submit(self, content_id: str, round_id: str = "current") -> Answer:
        """Enter a meme into a round."""
        path = f"/rounds/{round_id}/submissions"
        return await self.call("POST", path, json={"contentId": content_id})

    # Money and votes

    async def balance(self) -> Answer:
        """Available, withdrawable, held, pending; satoshis."""
        return await self.call("GET", "/payments/balance")

    async def deposit(self, amount_sats: int) -> str:
        """Let the faucet pay the player's deposit address; the transaction's id.

        It counts once a block has it.
        """
        address = (await self.call("GET", "/payments/deposit-address"))["address"]
        order = {"address": address, "satoshis": amount_sats}
        # The faucet has no idempotency: a lost answer must not be paid twice.
        paid = await self._control.call("POST", "/control/fund", json=order, repeatable=False)
        return str(paid["txid"])

    async def until_available(self, amount_sats: int, timeout_s: float) -> Answer:
        """The balance once `amount_sats` are available. Raises TimeoutError."""

        async def credited() -> Answer | None:
            balance = await self.balance()
            return balance if balance["available"] >= amount_sats else None

        return await eventually(credited, timeout_s)

    async def vote(self, round_id: str, content_id: str, amount_sats: int) -> Answer:
        """Stake on a meme; the vote once it is counted or rejected. Raises TimeoutError."""
        path = f"/rounds/{round_id}/vote"
        stake = {"contentId": content_id, "amount": amount_sats}
        prefer = {"Prefer": f"wait={VOTE_WAIT_S}"}
        placed = await self.call("POST", path, json=stake, headers=prefer)

        async def decided() -> Answer | None:
            nonlocal placed
            if placed["state"] == "pending":
                placed = await self.call("GET", f"/rounds/{placed['roundId']}/votes/{placed['id']}")
            return None if placed["state"] == "pending" else placed

        return await eventually(decided, VOTE_TIMEOUT_S)


async def eventually(ask: Callable[[], Awaitable[T | None]], timeout_s: float) -> T:
    """What `ask` answers once it is not None, asked again and again. Raises TimeoutError."""
    deadline_s = time.monotonic() + timeout_s
    pause_s = POLL_S
    while True:
        answer = await ask()
        if answer is not None:
            return answer
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"no answer within {timeout_s} s")
        await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
        pause_s = min(POLL_MAX_S, pause_s * 1.5)
