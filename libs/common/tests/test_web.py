"""The HTTP frame: problems, limits, tokens, the commit before the answer, idempotency."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import ValidationError
from sqlalchemy import create_engine, text

from memepool_common.db import Database
from memepool_common.settings import HttpSettings
from memepool_common.testing import TestIssuer
from memepool_common.web.app import build_app
from memepool_common.web.deps import AdminCaller, Caller, CreatorCaller, IdempotencyKey, SessionDep
from memepool_common.web.idempotency import once
from memepool_common.web.model import MoneyModel, PositiveSats, QueryText, Timestamp, WireModel
from memepool_common.web.money import MoneyRoute
from memepool_common.web.problem import not_built_yet

router = APIRouter(route_class=MoneyRoute)


class Payment(MoneyModel):
    amount: PositiveSats
    memo: str | None = None


class Receipt(WireModel):
    amount_paid: int


class OutOfStockError(Exception):
    code = "out_of_stock"


@router.post("/payments", status_code=201)
async def create_payment(
    body: Payment, session: SessionDep, caller: Caller, key: IdempotencyKey = None
) -> Any:
    async def act() -> Receipt:
        await session.execute(text("insert into effect (name) values ('paid')"))
        return Receipt(amount_paid=body.amount)

    return await once(
        session,
        scope=str(caller.user_id),
        operation="createPayment",
        key=key,
        request=body,
        status=201,
        act=act,
    )


@router.post("/alter-schema")
async def alter_schema(session: SessionDep) -> dict[str, bool]:
    await session.execute(text("insert into effect (name) values ('lost')"))
    await session.execute(text("alter table effect drop column times"))
    return {"done": True}


@router.get("/search")
async def search(q: QueryText) -> dict[str, str]:
    return {"q": q}


@router.get("/creators")
async def for_creators(caller: CreatorCaller) -> dict[str, str]:
    return {"role": caller.role}


@router.get("/admins")
async def for_admins(caller: AdminCaller) -> dict[str, str]:
    return {"role": caller.role}


@router.get("/stock")
async def stock() -> None:
    raise OutOfStockError("There is nothing left.")


@router.get("/crash")
async def crash() -> None:
    raise ZeroDivisionError


@router.get("/later")
async def later() -> None:
    raise not_built_yet("later")


@pytest.fixture
def issuer() -> TestIssuer:
    return TestIssuer()


@pytest.fixture
async def client(database: Database, issuer: TestIssuer) -> AsyncIterator[httpx.AsyncClient]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield

    app = build_app(
        service="sample",
        description="A sample.",
        settings=HttpSettings(body_bytes_max=1000),
        lifespan=lifespan,
        routers=[router],
        errors={OutOfStockError: 409},
    )
    app.state.database = database
    app.state.tokens = issuer.verifier
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sample") as client:
        yield client


def check_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert body["type"] == f"/problems/{code}"
    assert set(body) >= {"title", "detail", "instance", "traceId", "errors"}
    return body


async def effects(database: Database) -> int:
    async with database.read() as session:
        return int((await session.execute(text("select count(*) from effect"))).scalar_one())


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/stock", 405, "method_not_allowed"),
        ("GET", "/stock", 409, "out_of_stock"),
        ("GET", "/crash", 500, "internal_error"),
        ("GET", "/later", 501, "not_built_yet"),
        ("GET", "/search?q=%00", 422, "invalid_request"),
        ("GET", "/creators", 401, "token_required"),
    ],
)
async def test_every_refusal_is_a_problem(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    check_problem(await client.request(method, path), status, code)


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        (b"{", 400, "malformed_json", None),
        (b"\xff", 400, "malformed_request", None),
        (b"[" * 900, 400, None, None),
        (b'{"amount": -1}', 422, "invalid_request", "/amount"),
        (b'{"amount": 0}', 422, "invalid_request", "/amount"),
        (b'{"amount": 1.5}', 422, "invalid_request", "/amount"),
        (b'{"amount": "1"}', 422, "invalid_request", "/amount"),
        (b'{"amount": true}', 422, "invalid_request", "/amount"),
        (b'{"amount": null}', 422, "invalid_request", "/amount"),
        (b'{"amount": 1e400}', 422, "invalid_request", "/amount"),
        (b'{"amount": 2100000000000001}', 422, "invalid_request", "/amount"),
        (b'{"amount": 99999999999999999999999999}', 422, "invalid_request", "/amount"),
        (b'{"amount": 1, "tip": 1}', 422, "invalid_request", "/tip"),
        (b'{"amount": 1, "memo": "a\\u0000b"}', 422, "invalid_request", "/memo"),
        (b'{"amount": 1, "memo": "\\ud800"}', 422, "invalid_request", "/memo"),
        (b'{"amount": 1, "amount": 2}', 422, "repeated_name", "/amount"),
        (b'{"amount": 1, "\\u0061mount": 2}', 422, "repeated_name", "/amount"),
        (b'{"amount": 1, "memo": {"\\ud800": 1, "\\ud800": 2}}', 422, "repeated_name", "/?"),
        (b'{"amount": ' + b"[" * 900, 400, None, None),
        (b"{}", 422, "invalid_request", "/amount"),
        (b"", 422, "invalid_request", None),
        (b'{"amount": 1, "memo": "' + b"x" * 1000 + b'"}', 413, "body_too_large", None),
    ],
)
async def test_bad_bodies_are_named_and_change_nothing(
    client: httpx.AsyncClient,
    issuer: TestIssuer,
    database: Database,
    body: bytes,
    status: int,
    code: str | None,
    pointer: str | None,
) -> None:
    headers = issuer.headers(issuer.principal()) | {"Content-Type": "application/json"}
    answer = await client.post("/payments", content=body, headers=headers)
    problem = check_problem(answer, status, code or answer.json()["code"])
    if pointer:
        assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert await effects(database) == 0


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", ";;;=", None])
async def test_a_body_of_another_type_is_told_which_one_is_taken(
    client: httpx.AsyncClient, issuer: TestIssuer, database: Database, content_type: str | None
) -> None:
    headers = issuer.headers(issuer.principal())
    headers |= {"Content-Type": content_type} if content_type else {}
    answer = await client.post("/payments", content=b'{"amount": 5}', headers=headers)
    assert "application/json" in check_problem(answer, 415, "unsupported_media_type")["detail"]
    assert await effects(database) == 0


class Meeting(WireModel):
    at: Timestamp


def test_times_are_told_in_utc_and_those_that_cannot_be_are_refused() -> None:
    meeting = Meeting.model_validate_json('{"at": "2026-01-01T01:00:00+02:00"}')
    assert meeting.model_dump_json() == '{"at":"2025-12-31T23:00:00.000000Z"}'
    for beyond in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        with pytest.raises(ValidationError, match="out of range in UTC"):
            Meeting.model_validate({"at": beyond})


async def test_a_body_of_undeclared_length_is_counted(
    client: httpx.AsyncClient, issuer: TestIssuer, database: Database
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"amount": 1, "memo": "'
        for _ in range(20):
            yield b"x" * 100
        yield b'"}'

    headers = issuer.headers(issuer.principal()) | {"Content-Type": "application/json"}
    answer = await client.post("/payments", content=chunks(), headers=headers)
    check_problem(answer, 413, "body_too_large")
    assert await effects(database) == 0


async def test_a_failed_commit_is_no_success(client: httpx.AsyncClient, database: Database) -> None:
    owner = database.settings.owner_url
    assert owner is not None
    engine = create_engine(owner.get_secret_value())
    with engine.begin() as connection:
        connection.execute(
            text(
                "create function refuse() returns trigger language plpgsql as"
                " $$ begin raise exception 'no commit today'; end $$"
            )
        )
        connection.execute(
            text(
                "create constraint trigger refuse after insert on effect"
                " deferrable initially deferred for each row execute function refuse()"
            )
        )
    engine.dispose()
    issuer = TestIssuer()
    client._transport.app.state.tokens = issuer.verifier  # type: ignore[attr-defined]  # the app under test
    answer = await client.post(
        "/payments", json={"amount": 5}, headers=issuer.headers(issuer.principal())
    )
    check_problem(answer, 500, "internal_error")
    assert await effects(database) == 0


async def test_the_application_role_cannot_change_the_schema(
    client: httpx.AsyncClient, database: Database
) -> None:
    check_problem(await client.post("/alter-schema"), 500, "internal_error")
    assert await effects(database) == 0


async def test_roles_open_their_doors_only(client: httpx.AsyncClient, issuer: TestIssuer) -> None:
    for role, creators, admins in (
        ("viewer", 403, 403),
        ("creator", 200, 403),
        ("admin", 200, 200),
    ):
        headers = issuer.headers(issuer.principal(role))
        assert (await client.get("/creators", headers=headers)).status_code == creators
        assert (await client.get("/admins", headers=headers)).status_code == admins


async def test_tokens_that_are_none_are_refused(
    client: httpx.AsyncClient, issuer: TestIssuer
) -> None:
    good = issuer.token(issuer.principal("admin"))
    other = TestIssuer()
    header, payload, _ = good.split(".")
    bad = [
        "",
        "x",
        "a.b.c",
        good[:-4] + "AAAA",
        f"{header}.{payload}.",
        other.token(other.principal("admin")),
        "x" * 5000,
    ]
    for token in bad:
        answer = await client.get("/admins", headers={"Authorization": f"Bearer {token}"})
        assert check_problem(answer, 401, answer.json()["code"])["code"] in (
            "token_invalid",
            "token_required",
        )
    answer = await client.get("/admins", headers={"Authorization": "Basic abc"})
    check_problem(answer, 401, "token_invalid")


async def test_an_ended_session_and_an_expired_token_are_refused(
    client: httpx.AsyncClient, issuer: TestIssuer
) -> None:
    admin = issuer.principal("admin")
    headers = issuer.headers(admin)
    assert (await client.get("/admins", headers=headers)).status_code == 200
    issuer.end(admin.session_id)
    check_problem(await client.get("/admins", headers=headers), 401, "session_ended")
    issuer.end(users={admin.user_id: admin.issued_at + timedelta(seconds=1)})
    check_problem(await client.get("/admins", headers=headers), 401, "session_ended")
    issuer.end(users={admin.user_id: admin.issued_at - timedelta(seconds=1)})
    assert (await client.get("/admins", headers=headers)).status_code == 200


async def test_writes_are_refused_while_auth_is_silent(
    client: httpx.AsyncClient, issuer: TestIssuer, database: Database
) -> None:
    issuer.state._stale_after_s = -1
    headers = issuer.headers(issuer.principal("creator"))
    answer = await client.post("/payments", json={"amount": 5}, headers=headers)
    check_problem(answer, 503, "auth_unavailable")
    assert (await client.get("/creators", headers=headers)).status_code == 200
    assert await effects(database) == 0


async def test_a_repeated_key_gets_the_first_answer(
    client: httpx.AsyncClient, issuer: TestIssuer, database: Database
) -> None:
    caller = issuer.principal()
    headers = issuer.headers(caller) | {"Idempotency-Key": "k1"}
    first = await client.post("/payments", json={"amount": 5}, headers=headers)
    again = await client.post("/payments", json={"amount": 5}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json() == {"amountPaid": 5}
    assert again.headers["idempotent-replayed"] == "true"
    other = await client.post("/payments", json={"amount": 6}, headers=headers)
    check_problem(other, 422, "idempotency_key_reused")
    stranger = issuer.headers(issuer.principal()) | {"Idempotency-Key": "k1"}
    assert (await client.post("/payments", json={"amount": 6}, headers=stranger)).json() == {
        "amountPaid": 6
    }
    assert await effects(database) == 2


async def test_concurrent_requests_with_one_key_act_once(
    client: httpx.AsyncClient, issuer: TestIssuer, database: Database
) -> None:
    headers = issuer.headers(issuer.principal()) | {"Idempotency-Key": "k1"}
    answers = await asyncio.gather(
        *(client.post("/payments", json={"amount": 5}, headers=headers) for _ in range(5))
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert await effects(database) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
async def test_a_malformed_key_is_refused(
    client: httpx.AsyncClient, issuer: TestIssuer, key: str
) -> None:
    headers = issuer.headers(issuer.principal()) | {"Idempotency-Key": key}
    answer = await client.post("/payments", json={"amount": 5}, headers=headers)
    check_problem(answer, 422, "invalid_request")
