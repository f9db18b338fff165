"""Moderation: reports, the admins' queue, decisions, and what a takedown leaves."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from memepool_common.testing import until
from memepool_content.use_cases import memes, reports
from services.content.tests.harness import ContentService, event_names, problem
from services.content.tests.pictures import encoded, meme

UNKNOWN = "0198f0a0-0000-7000-8000-000000000000"


async def report(content: ContentService, content_id: str, caller: Any, **body: Any) -> Any:
    path = f"/content/{content_id}/reports"
    return await content.call("POST", path, caller, json={"reason": "spam", **body})


async def decide(content: ContentService, report_id: str, caller: Any, **body: Any) -> Any:
    path = f"/content/reports/{report_id}/decision"
    wanted = {"decision": "remove", "reason": "it is spam", **body}
    return await content.call("POST", path, caller, json=wanted)


async def test_reports_are_queued_and_decided(working: ContentService) -> None:
    first = (await working.processed(encoded(meme(1))))["id"]
    second = (await working.processed(encoded(meme(2))))["id"]
    readers = [working.issuer.principal("viewer") for _ in range(2)]
    admin = working.issuer.principal("admin")
    made = [
        (await report(working, first, readers[0], reason="hateful", detail="look")).json(),
        (await report(working, second, readers[0])).json(),
        (await report(working, first, readers[1])).json(),
    ]
    assert made[0]["state"] == "open"
    assert (made[0]["reason"], made[0]["detail"]) == ("hateful", "look")
    again = await report(working, first, readers[0], reason="other")
    assert (again.status_code, again.json()) == (201, made[0])

    queue = (await working.get("/content/reports", admin)).json()
    assert (queue["items"], queue["nextCursor"]) == (made, None)
    page = (await working.get("/content/reports?limit=2", admin)).json()
    rest = await working.get(f"/content/reports?cursor={page['nextCursor']}", admin)
    assert page["items"] + rest.json()["items"] == made

    dismissed = await decide(working, made[1]["id"], admin, decision="dismiss", reason="it is art")
    assert dismissed.status_code == 201
    assert dismissed.json()["state"] == "dismissed"
    assert dismissed.json()["decisionReason"] == "it is art"
    assert dismissed.json()["decidedBy"] == str(admin.user_id)
    assert (await working.get(f"/content/{second}")).status_code == 200

    removed = await decide(working, made[0]["id"], admin)
    assert (removed.status_code, removed.json()["state"]) == (201, "removed")
    problem(await working.get(f"/content/{first}"), 410, "content_removed")
    assert (await working.get("/content/reports", admin)).json()["items"] == []
    problem(await decide(working, made[2]["id"], admin), 409, "report_decided")
    problem(await decide(working, made[0]["id"], admin), 409, "report_decided")
    assert event_names(await working.events())[-1] == "meme.removed.v1"
    feed = (await working.get("/content/audit", working.creator)).json()["items"]
    assert feed[0]["details"]["reason"] == "it is spam"

    # The bytes are gone, the hashes stay.
    await until(lambda: not working.stored(f"media/{first}"))
    back = await working.upload(encoded(meme(1)), caller=working.issuer.principal("creator"))
    problem(back, 409, "removed_before")


async def test_an_owner_who_deletes_closes_the_reports(working: ContentService) -> None:
    found = (await working.processed())["id"]
    await report(working, found, working.issuer.principal("viewer"))
    await working.call("DELETE", f"/content/{found}", working.creator)
    queue = await working.get("/content/reports", working.issuer.principal("admin"))
    assert queue.json()["items"] == []


async def test_no_report_of_what_is_being_removed_stays_open(working: ContentService) -> None:
    found = UUID((await working.processed())["id"])
    viewer, me = working.issuer.principal("viewer"), working.creator.user_id

    async def waiting() -> bool:
        return await working.count("pg_locks where not granted") > 0

    async with working.database.transaction() as session:
        await memes.visible(session, found, me, admin=False, lock=True)
        task = asyncio.create_task(report(working, str(found), viewer))
        await until(waiting)
        await memes.remove(session, found, me, admin=False, now=datetime.now(UTC))
    problem(await task, 410, "content_removed")
    assert await working.count("report") == 0


async def test_decisions_at_the_same_time(working: ContentService) -> None:
    found = (await working.processed())["id"]
    admins = [working.issuer.principal("admin") for _ in range(4)]
    made = (await report(working, found, working.issuer.principal("viewer"))).json()
    answers = await asyncio.gather(
        *(decide(working, made["id"], admin) for admin in admins[:2]),
        *(decide(working, made["id"], admin, decision="dismiss") for admin in admins[2:]),
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    (state,) = [answer.json()["state"] for answer in answers if answer.status_code == 201]
    gone = (await working.get(f"/content/{found}")).status_code
    assert (state, gone) in {("removed", 410), ("dismissed", 200)}


async def test_who_may(content: ContentService, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = (await content.upload()).json()["id"]
    viewer, admin = content.issuer.principal("viewer"), content.issuer.principal("admin")
    problem(await report(content, hidden, None), 401, "token_required")
    problem(await report(content, hidden, viewer), 404, "content_not_found")
    problem(await report(content, UNKNOWN, viewer), 404, "content_not_found")
    problem(await report(content, hidden, viewer, reason="dull"), 422, "invalid_request")
    for caller in (viewer, content.creator):
        problem(await content.get("/content/reports", caller), 403, "role_required")
        problem(await decide(content, UNKNOWN, caller), 403, "role_required")
    problem(await content.get("/content/reports"), 401, "token_required")
    problem(await decide(content, UNKNOWN, admin), 404, "report_not_found")
    problem(await decide(content, UNKNOWN, admin, decision="keep"), 422, "invalid_request")
    problem(await decide(content, UNKNOWN, admin, reason=""), 422, "invalid_request")
    monkeypatch.setattr(reports, "DAILY_MAX", 0)
    answer = await report(content, hidden, content.creator)
    problem(answer, 429, "report_quota_exceeded")
