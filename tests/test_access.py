"""Who may do what: docs/access.md against every operation of the API, through the gateway.

And: who has ended or is suspended is refused by the gateway and by each service (auth's
`test_auth_state` adds up the intervals to the second that is promised), and from the first request
on after all of them have restarted.
"""

import asyncio
import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from memepool_common.db import Database
from memepool_common.server import serving
from memepool_sandbox.launcher import services
from memepool_sandbox.launcher.options import free_port_block
from memepool_sandbox.launcher.services import Part, Surroundings, build_parts, choose_ports
from memepool_sandbox.ports import HOST
from tests.conftest import TIMEOUT_S, World

pytestmark = pytest.mark.asyncio(loop_scope="module")
TABLE = Path(__file__).parents[1] / "docs" / "access.md"
ROLES = ("anonymous", "viewer", "creator", "admin", "suspended", "ended")
CELLS = {"yes", "401", "403", "token"}
ENDS_ITS_SESSION = "endSession"
AT_ONCE = 4
SERVICES = ("auth", "content", "rounds", "payments")
READS = {
    "content": ("GET", "/content/audit"),
    "rounds": ("GET", "/rounds/audit"),
    "payments": ("GET", "/payments/history"),
    "gateway": ("GET", "/payments/history"),
}
WRITES = {
    "content": ("POST", "/content/upload"),
    "rounds": ("POST", "/rounds/current/vote"),
    "payments": ("POST", "/payments/transfer"),
    "gateway": ("POST", "/rounds/current/vote"),
}
PUBLIC_READS = {
    "content": ("GET", "/content"),
    "rounds": ("GET", "/rounds/policies"),
    "payments": ("GET", "/payments/fees"),
    "gateway": ("GET", "/rounds/policies"),
}
# With these the services themselves judge every token; what is public never looks at one.
GUARDED = {
    "auth": "/auth/me",
    "content": "/content/audit",
    "rounds": "/rounds/audit",
    "payments": "/payments/balance",
}


@dataclass(frozen=True)
class Operation:
    """One operation of the API, and a request for it that can do no harm."""

    id: str
    method: str
    template: str
    parameters: Mapping[str, Mapping[str, Any]] = field(repr=False)

    @property
    def path(self) -> str:
        """Its path, naming things that do not exist."""
        return re.sub(r"\{(\w+)\}", lambda name: self._value(name.group(1)), self.template)

    def _value(self, name: str) -> str:
        return str(uuid4()) if self.parameters[name].get("format") == "uuid" else "1"


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """Every operation of an OpenAPI document."""
    for template, item in document["paths"].items():
        for method, operation in item.items():
            given = operation.get("parameters", [])
            schemas = {each["name"]: each["schema"] for each in given if each["in"] == "path"}
            yield Operation(operation["operationId"], method.upper(), template, schemas)


def read_table() -> dict[tuple[str, str], dict[str, str]]:
    """The cells of docs/access.md by (operation, call)."""
    table = {}
    for line in TABLE.read_text().splitlines():
        if re.match(r"\| \w+ \| [A-Z]+ /", line):
            name, call, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            assert (name, call) not in table, f"two rows of {name}"
            table[name, call] = dict(zip(ROLES, cells, strict=False))
            assert set(table[name, call].values()) <= CELLS, line
    return table


@pytest.fixture(scope="module")
def mode() -> str:
    """Nothing here depends on the bus."""
    return "once"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def headers(world: World) -> dict[str, dict[str, str]]:
    """What each of the six sends."""
    names = ("viewer", "creator", "admin", "suspended", "ended")
    people = {
        name: await world.player("creator" if name == "creator" else "viewer") for name in names
    }
    auth = Database.connect(world.system.databases["auth"])
    async with auth.transaction() as session:
        promote = text("update app_user set role = 'admin' where id = :id")
        await session.execute(promote, {"id": people["admin"].user_id})
    await auth.close()
    await people["admin"].sign_in()
    sent = {
        name: {"Authorization": f"Bearer {person._access_token}"} for name, person in people.items()
    }
    suspension = f"/auth/users/{people['suspended'].user_id}/suspension"
    await people["admin"].call("PUT", suspension, json={"reason": "a test"})
    await people["ended"].call("DELETE", "/auth/session")
    everywhere = product(("suspended", "ended"), ("gateway", *SERVICES))
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http, asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(
            *(refused_by(http, world, service, sent[name]) for name, service in everywhere)
        )
    return {"anonymous": {}, **sent}


async def refused_by(
    http: httpx.AsyncClient, world: World, service: str, sent: dict[str, str]
) -> None:
    """Wait until a service refuses this token."""
    url = world.system.services[service] + GUARDED.get(service, "/auth/me")
    while (await http.get(url, headers=sent)).status_code != 401:
        await asyncio.sleep(0.02)


async def ask(http: httpx.AsyncClient, operation: Operation, sent: dict[str, str]) -> str:
    """Status and code of the answer, once auth's word is fresh enough to give one."""
    while (answer := await _ask_once(http, operation, sent)) == "503 auth_unavailable":
        await asyncio.sleep(1)  # as Retry-After says; a machine under load gets there
    return answer


async def _ask_once(http: httpx.AsyncClient, operation: Operation, sent: dict[str, str]) -> str:
    """Status and code of the answer; the rest of an endless one is not waited for."""
    body: dict[str, Any] | None = {} if operation.method in ("POST", "PUT", "PATCH") else None
    request = http.build_request(operation.method, operation.path, json=body, headers=sent)
    answer = await http.send(request, stream=True)
    try:
        if answer.headers.get("content-type") != "application/problem+json":
            return f"{answer.status_code}"
        await answer.aread()
        return f"{answer.status_code} {answer.json()['code']}"
    finally:
        await answer.aclose()


def fits(cell: str, answer: str) -> bool:
    """Whether an answer is what a cell of the table says."""
    status, _, code = answer.partition(" ")
    if cell == "403":
        return answer == "403 role_required"
    if cell == "401":
        return answer in ("401 token_required", "401 session_ended")
    if cell == "token":
        return not status.startswith("2")
    built = status < "500" or code in ("not_built_yet", "transform_unavailable")
    return built and status not in ("401", "403", "429")


async def test_every_operation_has_a_row_and_every_row_an_operation(world: World) -> None:
    document = await world.get("/openapi.json")
    described = {(each.id, f"{each.method} {each.template}") for each in operations(document)}
    assert described == set(read_table())


async def test_the_document_says_which_operations_need_a_token(world: World) -> None:
    document = await world.get("/openapi.json")
    described = [each for item in document["paths"].values() for each in item.values()]
    needed = {each["operationId"]: {} not in each.get("security", [{}]) for each in described}
    table = {name: cells["anonymous"] == "401" for (name, _), cells in read_table().items()}
    assert needed == table


async def test_every_operation_is_for_whom_the_table_says(
    world: World, headers: dict[str, dict[str, str]]
) -> None:
    table = read_table()
    rows = [
        (each, table[each.id, f"{each.method} {each.template}"])
        for each in operations(await world.get("/openapi.json"))
    ]
    rows.sort(key=lambda row: row[0].id == ENDS_ITS_SESSION)
    slots = asyncio.Semaphore(AT_ONCE)
    wrong = []

    async def check(operation: Operation, cells: Mapping[str, str], role: str) -> None:
        async with slots:
            answer = await ask(world.http, operation, headers[role])
        if not fits(cells[role], answer):
            wrong.append(f"{operation.id} as {role}: {answer}, the table says {cells[role]}")

    *harmless, last = rows
    assert last[0].id == ENDS_ITS_SESSION
    calls = [(operation, cells, role) for operation, cells in harmless for role in ROLES]
    await asyncio.gather(*(check(*call) for call in calls))
    for role in ("anonymous", "suspended", "ended"):
        await check(*last, role)
    assert not wrong, "\n".join(wrong)


async def test_each_service_itself_refuses_what_the_gateway_refuses(
    world: World, headers: dict[str, dict[str, str]]
) -> None:
    """Nothing trusts the gateway: the same calls, past it."""
    document, wrong = await world.get("/openapi.json"), []
    table = read_table()
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        for operation in operations(document):
            cells = table[operation.id, f"{operation.method} {operation.template}"]
            if cells["anonymous"] != "401":
                continue
            service = operation.template.split("/")[1]
            address = world.system.services[service]
            past = Operation(
                operation.id, operation.method, address + operation.template, operation.parameters
            )
            for role in ("anonymous", "ended"):
                answer = await ask(http, past, headers[role])
                if not fits("401", answer):
                    wrong.append(f"{operation.id} as {role}: {answer}")
    assert not wrong, "\n".join(wrong)


async def test_audit_feeds_are_ones_own_and_all_for_admins(
    world: World, headers: dict[str, dict[str, str]]
) -> None:
    me = await world.get("/auth/me", headers=headers["creator"])
    for service in SERVICES:
        own = await world.get(f"/{service}/audit", headers=headers["creator"])
        assert {entry["accountId"] for entry in own["items"]} <= {me["id"]}
        every = await world.get(f"/{service}/audit", headers=headers["admin"])
        known = {entry["id"] for entry in every["items"]}
        assert {entry["id"] for entry in own["items"]} <= known
        database = Database.connect(world.system.databases[service])
        for statement in (
            "update audit_log set outcome = 'x'",
            "delete from audit_log",
            "truncate audit_log",
            "alter table audit_log add column x int",
        ):
            with pytest.raises(ProgrammingError) as refused:
                async with database.transaction() as session:
                    await session.execute(text(statement))
            assert getattr(refused.value.orig, "sqlstate", None) == "42501", statement
        await database.close()
    feed = (await world.get("/auth/audit", headers=headers["creator"]))["items"]
    assert {"auth.session.opened", "auth.user.registered"} <= {entry["action"] for entry in feed}


async def test_a_browser_session_works_through_the_gateway_and_for_our_pages_only(
    world: World,
) -> None:
    person = await world.player()
    path, ours = "/auth/session", {"Origin": world.system.gateway_url}

    async def proof() -> dict[str, Any]:
        asked = {"walletAddress": person.wallet.address}
        challenge = (await world.http.post("/auth/challenge", json=asked)).json()
        signature = person.wallet.sign(challenge["message"])
        return {**asked, "nonce": challenge["nonce"], "signature": signature, "cookie": True}

    evil = {"Origin": "https://evil.example"}
    assert (await world.http.post(path, json=await proof(), headers=evil)).status_code == 403
    opened = await world.http.post(path, json=await proof(), headers=ours)
    assert (opened.status_code, opened.json()["refreshToken"]) == (201, None)
    held = {"Cookie": opened.headers["set-cookie"].partition(";")[0]}
    refused = await world.http.post(path, json={"cookie": True}, headers=held | evil)
    assert (refused.status_code, refused.json()["code"]) == (403, "origin_not_allowed")
    assert (await world.http.get("/auth/me", headers=held | ours)).status_code == 401
    renewed = await world.http.post(path, json={"cookie": True}, headers=held | ours)
    assert renewed.status_code == 201
    assert renewed.headers["set-cookie"].startswith("__Host-")


@pytest.fixture
def around(world: World, tmp_path: Path) -> Surroundings:
    """What new processes of auth, gateway and all services on the same databases are told."""
    return Surroundings(
        databases=world.system.databases,
        ports=choose_ports(free_port_block()),
        secrets=world.system.secrets,
        chain_url=f"{world.system.chain_url}/v1/bsv",
        aitubo_url=world.system.chain_url,
        store=tmp_path,
    )


async def serve(stack: contextlib.AsyncExitStack, around: Surroundings, part: Part) -> None:
    """Both ports of a new process."""
    ports = around.ports[part.name]
    for app, port in ((part.internal, ports.internal_port), (part.public, ports.port)):
        await stack.enter_async_context(serving(app, HOST, port))


async def test_ended_and_suspended_are_refused_right_after_a_restart(
    headers: dict[str, dict[str, str]], around: Surroundings
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        parts = build_parts(around)
        for part in reversed(parts):  # auth last: the others are asked while they know nothing
            await serve(stack, around, part)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=TIMEOUT_S))
        ready: set[str] = set()
        while len(ready) < len(parts):
            for part in parts:
                if not await part.probes.failures():
                    ready.add(part.name)
                path = GUARDED.get(part.name, "/auth/me")
                for role in ("suspended", "ended"):
                    url = around.url(part.name) + path
                    answer = await http.get(url, headers=headers[role])
                    allowed = {401} if part.name in ready else {401, 503}
                    assert answer.status_code in allowed, (part.name, role, answer.text)
        for part in parts:
            path = GUARDED.get(part.name, "/auth/me")
            url = around.url(part.name) + path
            assert (await http.get(url, headers=headers["viewer"])).status_code == 200


async def test_without_auth_nobody_writes_and_what_is_public_is_read_on(
    headers: dict[str, dict[str, str]],
    around: Surroundings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before auth has ever answered, while it answers, and once it has been silent for a while."""
    monkeypatch.setattr(services, "AUTH_STALE_AFTER_S", 2.0)
    async with contextlib.AsyncExitStack() as stack:
        auth, *others = build_parts(around)
        for part in others:
            await serve(stack, around, part)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=TIMEOUT_S))

        async def answers(calls: Mapping[str, tuple[str, str]], role: str) -> set[str]:
            found = set()
            for part in others:
                method, path = calls[part.name]
                operation = Operation("", method, around.url(part.name) + path, {})
                found.add(await _ask_once(http, operation, headers[role]))
            return found

        silent = {"503 auth_unavailable"}
        assert all(["auth_state" in await part.probes.failures() for part in others])
        for calls in (READS, WRITES):
            assert await answers(calls, "viewer") == silent
        assert await answers(PUBLIC_READS, "anonymous") == {"200"}

        async with contextlib.AsyncExitStack() as while_it_lives:
            await serve(while_it_lives, around, auth)
            async with asyncio.timeout(TIMEOUT_S):
                while await answers(READS, "viewer") != {"200"} or silent & await answers(
                    WRITES, "viewer"
                ):
                    await asyncio.sleep(0.1)
            assert await answers(READS, "ended") == {"401 session_ended"}

        async with asyncio.timeout(TIMEOUT_S):
            while await answers(WRITES, "viewer") != silent:
                await asyncio.sleep(0.1)
        assert await answers(READS, "viewer") == {"200"}
        assert await answers(READS, "suspended") == {"401 session_ended"}
        assert await answers(PUBLIC_READS, "anonymous") == {"200"}
