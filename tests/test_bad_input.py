"""Whatever is sent to any operation, the answer is a problem that names the fault, and money stays.

The sweep is made from the API's own document, so an operation that is added later is in it.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from memepool_common.db import Database
from memepool_sandbox.players.player import Player
from tests.bad_input import Attempt, attempts, operations
from tests.conftest import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
AT_ONCE = 12
DEPOSIT_SATS = 100_000
PROBLEM_FIELDS = {"type", "title", "status", "detail", "instance", "code", "traceId", "errors"}
FAULTS_SHOWN = 40
OTHER_CREDENTIALS = frozenset(
    {"createChallenge", "verifySignature", "createSession", "receiveArcCallback"}
)
PARTLY_BUILT = frozenset({"createSession", "uploadContent", "createTransfer"})


@pytest.fixture(scope="module")
def mode() -> str:
    """Once is enough: what is refused here never gets to the bus."""
    return "once"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cast(world: World) -> dict[str, Player]:
    """`rich` has money and a meme in the round; the others send bad input and have no money."""
    rich = await world.player("creator", deposit_sats=DEPOSIT_SATS)
    round_id = await world.next_round()
    await rich.until_available(DEPOSIT_SATS, 30)
    await rich.submit(await rich.upload(), round_id)
    admin = await world.player()
    auth = Database.connect(world.system.databases["auth"])
    async with auth.transaction() as session:
        promote = text("update app_user set role = 'admin' where id = :id")
        await session.execute(promote, {"id": admin.user_id})
    await auth.close()
    await admin.sign_in()
    assert admin.role == "admin"
    creator = await world.player("creator")
    return {"rich": rich, "admin": admin, "creator": creator, "viewer": await world.player()}


@pytest.mark.timeout(400)  # thousands of requests, and what else the machine does
async def test_no_bad_input_is_a_server_error_or_moves_money(
    world: World, cast: dict[str, Player]
) -> None:
    document = await world.get("/openapi.json")
    own = await cast["creator"].upload()
    known = {
        "userId": (await world.player()).user_id,
        "{contentId}": own,
        "contentId": (await cast["rich"].ready_memes())[0],
        "roundId": "current",
        "variant": "thumb",
        "recipient": cast["rich"].user_id,
        "walletAddress": cast["viewer"].wallet.address,
        "role": "creator",
    }
    before = await _money(world, cast)
    every = [each for operation in operations(document, known) for each in attempts(operation)]
    tokens = {name: player._access_token for name, player in cast.items()}
    described = {
        operation["operationId"]: operation
        for item in document["paths"].values()
        for operation in item.values()
    }
    unbuilt = PARTLY_BUILT | {
        name for name, operation in described.items() if operation.get("x-not-built-yet")
    }
    faults: list[str] = []
    turns = iter(every)

    async def send() -> None:
        for attempt in turns:
            try:
                answer = await _answer(world.http, attempt, tokens.get(attempt.caller))
            except httpx.HTTPError as error:
                faults.append(f"{attempt}: {error!r}")
            else:
                faults.extend(f"{attempt}: {fault}" for fault in _faults(answer, attempt, unbuilt))

    await asyncio.gather(*(send() for _ in range(AT_ONCE)))
    assert {attempt.operation for attempt in every} == described.keys()
    assert not faults, "\n".join([f"{len(faults)} faults", *faults[:FAULTS_SHOWN]])
    assert await _money(world, cast) == before
    await world.adds_up()


async def _money(world: World, cast: dict[str, Player]) -> tuple[Any, ...]:
    """All entries of the ledger, counted, and what everybody has."""
    payments = Database.connect(world.system.databases["payments"])
    async with payments.read() as session:
        entries = (await session.execute(text("select count(*) from entry"))).scalar_one()
    await payments.close()
    return entries, [await player.balance() for player in cast.values()]


async def _answer(http: httpx.AsyncClient, attempt: Attempt, token: str | None) -> httpx.Response:
    """The answer; of an endless one, only its head."""
    url = http.base_url.copy_with(raw_path=attempt.path.encode())
    authorization = [("Authorization", f"Bearer {token}".encode())] if token else []
    request = httpx.Request(
        attempt.method,
        url,
        headers=[(name.encode(), value) for name, value in (*attempt.headers, *authorization)],
        content=attempt.content,
        extensions={"timeout": httpx.Timeout(30).as_dict()},
    )
    answer = await http.send(request, stream=True)
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        await answer.aclose()
    else:
        await answer.aread()
    return answer


def _faults(answer: httpx.Response, attempt: Attempt, unbuilt: frozenset[str]) -> Iterator[str]:
    """What is wrong with an answer."""
    status = answer.status_code
    if status < 400:
        return
    if answer.headers.get("content-type") != "application/problem+json":
        yield f"{status} is no problem but {answer.text[:200]!r}"
        return
    problem = answer.json()
    if missing := PROBLEM_FIELDS - problem.keys():
        yield f"the problem lacks {missing}"
        return
    code = problem["code"]
    if problem["status"] != status or problem["type"] != f"/problems/{code}":
        yield f"{status} does not fit {problem}"
    if not problem["title"] or not problem["detail"] or not isinstance(problem["errors"], list):
        yield f"the problem says nothing: {problem}"
    if any(error.keys() != {"pointer", "code", "detail"} for error in problem["errors"]):
        yield f"errors are not of their shape: {problem['errors']}"
    announced = (status, code) == (501, "not_built_yet") and attempt.operation in unbuilt
    if status >= 500 and not announced:
        yield f"{status} {code}"
    tried = "Authorization is" in attempt.about and attempt.operation not in OTHER_CREDENTIALS
    if tried and status not in {400, 401}:
        yield f"{status} {code} for a bad token"
