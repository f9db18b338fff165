"""The API over real HTTP."""

import asyncio
import contextlib

import httpx

from memepool_common.ids import uuid7
from memepool_common.tokens import Principal
from services.rounds.tests.http import POLICY, Api


async def entered(api: Api) -> tuple[str, Principal]:
    """A meme that its creator has entered over HTTP, and the creator."""
    creator = api.issuer.principal("creator")
    meme = uuid7()
    await api.world.publish(meme, creator.user_id)
    answer = await api.post("/rounds/current/submissions", {"contentId": str(meme)}, creator)
    assert answer.status_code == 201, answer.text
    return str(meme), creator


async def hold_all(api: Api) -> None:
    """Payments holds whatever is pending."""
    rows = await api.world.rows("select id, round_id from vote where state = 'pending'")
    if rows:
        await api.world.hold(*rows)


async def test_a_whole_round_over_http(api: Api) -> None:
    meme, creator = await entered(api)
    viewer = api.issuer.principal()
    answer = await api.post(
        "/rounds/current/vote", {"contentId": meme, "amount": 1000}, viewer, key="one"
    )
    vote = answer.json()
    assert (answer.status_code, vote["state"], vote["roundId"]) == (202, "pending", "100")
    assert answer.headers["location"] == f"/rounds/100/votes/{vote['id']}"
    assert set(vote) == {
        *("id", "roundId", "contentId", "voterId", "amount", "state", "reason", "sequence"),
        "placedAt",
    }
    await hold_all(api)
    again = await api.post(
        "/rounds/current/vote", {"contentId": meme, "amount": 1000}, viewer, key="one"
    )
    assert (again.status_code, again.json()) == (201, vote | {"state": "counted"})
    current = (await api.get("/rounds/current")).json()
    assert (current["id"], current["pot"], current["state"]) == ("100", 1000, "open")
    assert set(current) == {
        *("id", "blockHeight", "blockHash", "state", "startTime", "endTime", "submissions"),
        *("pot", "policy", "finality"),
    }
    assert current["submissions"][0]["stakes"] == 1000
    early = await api.get("/rounds/current/results")
    assert (early.status_code, early.json()["code"]) == (409, "results_not_ready")
    await api.world.block()
    await api.world.look()
    await api.world.distribute(100)
    results = (await api.get("/rounds/100/results")).json()
    assert results["pot"] == results["fee"] + results["carryOut"] + sum(
        line["amount"] for line in results["rewards"]
    )
    assert results["rewards"][0] == {
        "recipient": str(creator.user_id),
        "amount": 500,
        "reason": "creator",
    }
    assert (results["settlementTxid"], results["finality"]) == (None, "seen")
    listed = (await api.get("/rounds", limit=1)).json()
    assert [each["id"] for each in listed["items"]] == ["101"]
    older = (await api.get("/rounds", cursor=listed["nextCursor"])).json()
    assert [(each["id"], each["state"], each["pot"]) for each in older["items"]] == [
        ("100", "settled", 1000)
    ]
    assert older["nextCursor"] is None


async def test_waiting_for_the_outcome(api: Api) -> None:
    meme, _ = await entered(api)
    prefer = {"Prefer": "respond-async, wait=5"}

    async def place(amount: int) -> httpx.Response:
        body = {"contentId": meme, "amount": amount}
        viewer = api.issuer.principal()
        return await api.post("/rounds/100/vote", body, viewer, headers=prefer)

    waiting = [asyncio.create_task(place(amount)) for amount in (1, 2, 3)]
    await api.until_rows("select from vote", 3)
    rows = await api.world.rows("select id, round_id from vote order by amount")
    await api.world.hold(*rows[:2])
    await api.world.refuse(rows[2])
    answers = [await task for task in waiting]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert sorted(answer.json()["state"] for answer in answers) == [
        *("counted", "counted", "rejected")
    ]
    assert answers[0].headers["preference-applied"] == "wait=5"


async def test_waiting_in_vain_answers_202(api: Api) -> None:
    meme, _ = await entered(api)
    answer = await api.post(
        "/rounds/100/vote",
        {"contentId": meme},
        api.issuer.principal(),
        headers={"Prefer": "wait=1"},
    )
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")


async def test_a_key_means_the_same_vote_whether_its_outcome_is_waited_for_or_not(api: Api) -> None:
    meme, _ = await entered(api)
    viewer, body = api.issuer.principal(), {"contentId": meme, "amount": 7}
    first = await api.post("/rounds/current/vote", body, viewer, key="k")
    await hold_all(api)
    waited = await api.post(
        "/rounds/current/vote", body, viewer, key="k", headers={"Prefer": "wait=2"}
    )
    assert (first.status_code, waited.status_code) == (202, 201)
    assert waited.json() == first.json() | {"state": "counted"}


async def test_256_votes_at_once_go_in_few_batches(api: Api) -> None:
    meme, _ = await entered(api)
    viewers = [api.issuer.principal() for _ in range(8)] * 32
    async with contextlib.AsyncExitStack() as stack:
        # One httpx client slows down with the square of its connections.
        clients = [httpx.AsyncClient(base_url=api.http.base_url, timeout=30) for _ in viewers[:16]]
        for client in clients:
            await stack.enter_async_context(client)
        answers = await asyncio.gather(
            *(
                clients[i % 16].post(
                    "/rounds/current/vote",
                    json={"contentId": meme, "amount": i + 1},
                    headers=api.as_(viewer),
                )
                for i, viewer in enumerate(viewers)
            )
        )
    assert {answer.status_code for answer in answers} == {202}, answers[0].text
    votes = [answer.json() for answer in answers]
    assert len({vote["sequence"] for vote in votes}) == 256
    placed = await api.world.events("vote.placed")
    assert sorted(i for each in placed for i in each["voteId"]) == sorted(v["id"] for v in votes)
    assert len(placed) < 128
    await hold_all(api)
    assert (await api.get("/rounds/current")).json()["pot"] == 256 * 257 // 2


async def test_votes_are_ones_own_until_the_round_has_closed(api: Api) -> None:
    meme, _ = await entered(api)
    mine, other = api.issuer.principal(), api.issuer.principal()
    for viewer in (mine, mine, mine, other):
        await api.post("/rounds/current/vote", {"contentId": meme}, viewer)
    path = "/rounds/100/votes"
    first = (await api.get(path, mine, limit=2)).json()
    second = (await api.get(path, mine, limit=2, cursor=first["nextCursor"])).json()
    assert ([len(page["items"]) for page in (first, second)], second["nextCursor"]) == (
        [2, 1],
        None,
    )
    vote_id = first["items"][0]["id"]
    assert (await api.get(path)).json()["code"] == "token_required"
    assert (await api.get(f"{path}/{vote_id}", mine)).json() == first["items"][0]
    for caller in (other, None):
        hidden = await api.get(f"{path}/{vote_id}", caller)
        assert (hidden.status_code, hidden.json()["code"]) == (404, "vote_not_found")
    await hold_all(api)
    await api.world.block()
    await api.world.look()
    assert len((await api.get(path)).json()["items"]) == 4
    assert (await api.get(f"{path}/{vote_id}")).status_code == 200


async def test_submissions_are_listed_withdrawn_and_replayed(api: Api) -> None:
    memes = [await entered(api) for _ in range(3)]
    first = (await api.get("/rounds/current/submissions", limit=2)).json()
    second = (await api.get("/rounds/100/submissions", cursor=first["nextCursor"])).json()
    listed = [each["contentId"] for each in first["items"] + second["items"]]
    assert listed == [meme for meme, _ in memes]
    meme, creator = memes[0]
    path = f"/rounds/current/submissions/{meme}"
    assert (await api.delete(path, api.issuer.principal())).status_code == 403
    assert (await api.delete(path, creator)).status_code == 204
    assert (await api.delete(path, creator)).status_code == 410
    again = await api.post("/rounds/current/submissions", {"contentId": meme}, creator)
    assert (again.status_code, again.json()["code"]) == (409, "already_entered")
    admin = api.issuer.principal("admin")
    path = f"/rounds/current/submissions/{memes[1][0]}"
    assert (await api.delete(path, admin)).status_code == 204
    audited = (await api.get("/rounds/audit", memes[1][1])).json()["items"]
    assert [(each["action"], each["actorId"]) for each in audited] == [
        ("rounds.meme.withdrawn", str(admin.user_id))
    ]


async def test_a_submission_under_a_key_is_answered_again(api: Api) -> None:
    creator, meme = api.issuer.principal("creator"), uuid7()
    await api.world.publish(meme, creator.user_id)
    body = {"contentId": str(meme)}
    first, again = [
        await api.post("/rounds/current/submissions", body, creator, key="k") for _ in range(2)
    ]
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    other = await api.post("/rounds/100/submissions", body, creator, key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_meme_that_is_on_its_way_is_waited_for(api: Api) -> None:
    creator, meme = api.issuer.principal("creator"), uuid7()
    body = {"contentId": str(meme)}
    task = asyncio.create_task(api.post("/rounds/current/submissions", body, creator))
    await asyncio.sleep(0.1)
    await api.world.publish(meme, creator.user_id)
    assert (await task).status_code == 201
    never = await api.post("/rounds/current/submissions", {"contentId": str(uuid7())}, creator)
    assert (never.status_code, never.json()["code"]) == (404, "not_known_yet")
    assert never.headers["retry-after"] == "1"


async def test_an_admin_schedules_a_policy_for_future_rounds(api: Api) -> None:
    admin = api.issuer.principal("admin")
    answer = await api.post("/rounds/policies", POLICY, admin, key="p")
    assert answer.status_code == 201, answer.text
    assert (answer.json()["fromHeight"], answer.json()["curve"]) == (101, "linear")
    assert (await api.post("/rounds/policies", POLICY, admin, key="p")).status_code == 201
    taken = await api.post("/rounds/policies", POLICY, admin)
    assert (taken.status_code, taken.json()["code"]) == (409, "policy_exists")
    late = await api.post("/rounds/policies", POLICY | {"id": "x", "fromHeight": 100}, admin)
    assert (late.status_code, late.json()["code"]) == (422, "invalid_policy")
    viewer = await api.post("/rounds/policies", POLICY, api.issuer.principal())
    assert (viewer.status_code, viewer.json()["code"]) == (403, "role_required")
    assert (await api.get("/rounds/current")).json()["policy"]["id"] == "standard-1"
    await api.world.block()
    assert (await api.get("/rounds/current")).json()["policy"]["id"] == "flat-1"
    listed = (await api.get("/rounds/policies")).json()["items"]
    assert [each["id"] for each in listed] == ["flat-1", "standard-1"]
    audited = (await api.get("/rounds/audit", admin)).json()["items"]
    assert audited[0]["action"] == "rounds.policy.scheduled"


async def test_what_the_follower_sees(api: Api) -> None:
    api.world.source.mine()
    seen = (await api.get("/rounds/chain")).json()
    assert (seen["network"], seen["tip"]["height"], seen["lagBlocks"]) == ("regtest", 100, 0)
    assert seen["recentReorganisations"] == []


async def test_nobody_votes_for_a_meme_of_their_own(api: Api) -> None:
    meme, creator = await entered(api)
    answer = await api.post("/rounds/current/vote", {"contentId": meme}, creator)
    assert (answer.status_code, answer.json()["code"]) == (403, "own_meme")


async def test_a_commit_that_fails_is_a_500_and_leaves_nothing(api: Api) -> None:
    meme, _ = await entered(api)
    await api.as_owner(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'no commit today'; end $$"
    )
    await api.as_owner(
        "create constraint trigger no_commit after insert on outbox"
        " deferrable initially deferred for each row execute function refuse()"
    )
    answer = await api.post(
        "/rounds/current/vote", {"contentId": meme}, api.issuer.principal(), key="k"
    )
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    creator, other = api.issuer.principal("creator"), uuid7()
    await api.world.publish(other, creator.user_id)
    answer = await api.post("/rounds/current/submissions", {"contentId": str(other)}, creator)
    assert answer.status_code == 500
    assert await api.world.rows("select from vote") == []
    assert len(await api.world.rows("select from submission")) == 1


async def test_the_document_lists_every_call_once(api: Api) -> None:
    document = (await api.get("/openapi.json")).json()
    operations = {
        operation["operationId"]: operation
        for path in document["paths"].values()
        for operation in path.values()
    }
    assert set(operations) == {
        *("readRoundsAudit", "listPolicies", "schedulePolicy", "getChain", "listRounds"),
        *("getRound", "getResults", "getBundle", "getProof", "listSubmissions", "submitMeme"),
        *("withdrawSubmission", "placeVote", "listVotes", "getVote"),
    }
    unbuilt = {name for name, each in operations.items() if each.get("x-not-built-yet")}
    assert unbuilt == set()
    assert all(each["summary"] and each.get("description", "x") for each in operations.values())
