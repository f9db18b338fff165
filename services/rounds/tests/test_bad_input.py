"""Whatever is sent, the answer is a problem that names the fault, and nothing has changed."""

from typing import Any

import httpx
import pytest

from memepool_common.ids import uuid7
from services.rounds.tests.http import POLICY, Api


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/contentId"),
        ({"contentId": "meme"}, "/contentId"),
        ({"contentId": 7}, "/contentId"),
        ({"contentId": str(uuid7()), "amount": 0}, "/amount"),
        ({"contentId": str(uuid7()), "amount": -1}, "/amount"),
        ({"contentId": str(uuid7()), "amount": 1.0}, "/amount"),
        ({"contentId": str(uuid7()), "amount": True}, "/amount"),
        ({"contentId": str(uuid7()), "amount": "5"}, "/amount"),
        ({"contentId": str(uuid7()), "amount": 10**30}, "/amount"),
        ({"contentId": str(uuid7()), "amount": 2_100_000_000_000_001}, "/amount"),
        ({"contentId": str(uuid7()), "amout": 5}, "/amout"),
        ([], "/"),
    ],
)
async def test_a_bad_vote_is_refused_by_the_name_of_its_fault(
    api: Api, body: Any, pointer: str
) -> None:
    answer = await api.post("/rounds/current/vote", body, api.issuer.principal())
    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["errors"][0]["pointer"] == pointer, problem


async def test_bad_input_everywhere_is_a_problem_that_names_it(api: Api) -> None:
    viewer, creator = api.issuer.principal(), api.issuer.principal("creator")
    admin = api.issuer.principal("admin")
    vote = {"contentId": str(uuid7())}
    json = {**api.as_(viewer), "Content-Type": "application/json"}
    strange = ("/rounds/abc", "/rounds/-1", "/rounds/01", "/rounds/99999999999", "/rounds/%00")
    expected: list[tuple[httpx.Response, int, str]] = [
        *[(await api.get(path), 422, "invalid_request") for path in strange],
        (await api.get("/rounds/7"), 404, "round_not_found"),
        (await api.get("/rounds/9999999999"), 404, "round_not_found"),
        (await api.get("/rounds/7/results"), 404, "round_not_found"),
        (await api.get("/rounds/7/votes"), 404, "round_not_found"),
        (await api.get("/rounds/7/submissions"), 404, "round_not_found"),
        (await api.get("/rounds/7/bundle"), 404, "round_not_found"),
        (await api.get("/rounds/100/votes/x"), 422, "invalid_request"),
        (await api.get(f"/rounds/100/votes/{uuid7()}", viewer), 404, "vote_not_found"),
        (await api.get("/rounds", limit=0), 422, "invalid_request"),
        (await api.get("/rounds", limit=101), 422, "invalid_request"),
        (await api.get("/rounds", cursor=""), 422, "invalid_cursor"),
        (await api.get("/rounds/100/submissions", cursor=""), 422, "invalid_cursor"),
        (await api.get("/rounds", cursor="AAAA"), 422, "invalid_cursor"),
        (await api.get("/rounds", cursor="é"), 422, "invalid_cursor"),
        (await api.get("/rounds/100/submissions", cursor="WzEsMl0"), 422, "invalid_cursor"),
        (await api.get("/rounds/policies", cursor="WyJhIl0"), 422, "invalid_cursor"),
        (await api.get("/rounds/audit"), 401, "token_required"),
        (await api.post("/rounds/current/vote", vote, None), 401, "token_required"),
        (await api.post("/rounds/current/vote", vote, viewer), 404, "meme_not_in_round"),
        (await api.post("/rounds/7/vote", vote, viewer), 404, "round_not_found"),
        (await api.post("/rounds/current/vote", vote, viewer, key="a\tb"), 422, "invalid_request"),
        (
            await api.post("/rounds/current/vote", vote, viewer, key="x" * 256),
            *(422, "invalid_request"),
        ),
        (await api.post("/rounds/current/submissions", vote, viewer), 403, "role_required"),
        (await api.post("/rounds/current/submissions", {}, creator), 422, "invalid_request"),
        (await api.delete("/rounds/100/submissions/x", creator), 422, "invalid_request"),
        (
            await api.delete(f"/rounds/100/submissions/{uuid7()}", creator),
            *(404, "submission_not_found"),
        ),
        (await api.post("/rounds/policies", POLICY | {"feeBp": 1}, admin), 422, "invalid_policy"),
        (
            await api.post("/rounds/policies", POLICY | {"id": "a\x00"}, admin),
            *(422, "invalid_request"),
        ),
        (
            await api.post("/rounds/policies", POLICY | {"minStake": 10**40}, admin),
            *(422, "invalid_request"),
        ),
        (
            await api.post("/rounds/policies", POLICY | {"fromHeight": 2**40}, admin),
            *(422, "invalid_request"),
        ),
        (await api.delete("/rounds/current", admin), 405, "method_not_allowed"),
        (
            await api.http.post("/rounds/current/vote", content=b"{", headers=json),
            *(400, "malformed_json"),
        ),
        (
            await api.http.post("/rounds/current/vote", content=b" " * 70_000, headers=json),
            *(413, "body_too_large"),
        ),
    ]
    for answer, status, code in expected:
        seen = (answer.status_code, answer.json().get("code"))
        assert seen == (status, code), f"{answer.request.method} {answer.url}: {answer.text}"
        assert answer.headers["content-type"] == "application/problem+json"
    assert await api.world.rows("select from vote") == []
