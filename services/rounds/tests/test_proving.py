"""Bundles and inclusion proofs over HTTP, judged by the public verifier in a process of its own."""

import asyncio
import copy
import hashlib
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from memepool_common.ids import uuid7
from memepool_rounds.domain.roots import CHUNK_VOTES
from memepool_rounds.store.votes import StoredVote
from services.rounds.tests.harness import World, wish
from services.rounds.tests.http import POLICY, Api

VERIFIER = Path(__file__).parents[3] / "tools" / "verify_round.py"
Document = dict[str, Any]


async def verify(*files: Path) -> tuple[int, str]:
    """Exit code and output, without any of our packages."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(VERIFIER), *map(str, files)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


def canonical(document: Document) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


async def play(world: World, rng: Random, *, memes: int, votes: int) -> int:
    """A random round: some votes refused, some late, a meme taken out; its id, tallied."""
    entries = [await world.enter() for _ in range(memes)]
    voters = [uuid7() for _ in range(max(1, votes // 3))]
    wishes = [
        wish(rng.choice(entries).content_id, rng.randint(5, 10**6), rng.choice(voters))
        for _ in range(votes)
    ]
    placed = [each for each in await world.place_all(wishes) if isinstance(each, StoredVote)]
    held = [vote for vote in placed if rng.random() < 0.9]
    if held:
        await world.hold(*held)
    if memes > 1:
        await world.remove(entries[0].content_id, entries[0].creator_id)
    round_id = await world.block(rng.randint(1, 3))
    for _ in range(32):
        await world.look()
        world.clock.pass_s(1)
    closed = await world.events("round.closed")
    assert len({each["roundId"] for each in closed}) == len(closed)
    await world.distribute(int(closed[-1]["roundId"]))
    assert int(closed[-1]["roundId"]) < round_id
    return int(closed[-1]["roundId"])


async def bundle_of(api: Api, round_id: int) -> bytes:
    answer = await api.get(f"/rounds/{round_id}/bundle")
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    return answer.content


async def test_bundles_of_random_rounds_hold(api: Api, tmp_path: Path) -> None:
    rng = Random(5)
    files = []
    for number, (memes, votes) in enumerate([(1, 4), (5, 60), (2, 0), (8, 200), (3, 9)]):
        if number == 2:  # from the next round on, another curve and other tiers
            tiers = [{"first": 1, "last": 3, "bp": 1234}]
            body = POLICY | {"creatorsBp": 8766, "tiers": tiers, "curve": "sqrt"}
            admin = api.issuer.principal("admin")
            assert (await api.post("/rounds/policies", body, admin)).status_code == 201
        round_id = await play(api.world, rng, memes=memes, votes=votes)
        files.append(tmp_path / f"{round_id}.json")
        files[-1].write_bytes(await bundle_of(api, round_id))
    code, output = await verify(*files)
    assert code == 0, output
    closed = await api.world.events("round.closed")
    for path, event in zip(files, closed, strict=True):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == event["bundleSha256"]
        assert f"{path}: round {event['roundId']} holds: {event['countedVotes']} votes" in output
        for said in (event["bundleSha256"], *event["roots"].values()):
            assert said in output
    assert any(event["carrySources"] for event in closed)


async def test_a_bundle_never_changes_and_has_only_what_is_needed(api: Api) -> None:
    for path in ("/rounds/current/bundle", "/rounds/100/bundle"):
        early = await api.get(path)
        assert (early.status_code, early.json()["code"]) == (409, "results_not_ready")
    assert (await api.get("/rounds/99/bundle")).status_code == 404
    round_id = await play(api.world, Random(1), memes=2, votes=10)
    first = await bundle_of(api, round_id)
    api.world.source.mine(3, on=api.world.source.at(100), name="22")  # away with all its blocks
    await api.world.follower.poll()
    assert (await api.world.round(round_id)).finality == "reorged"
    assert await bundle_of(api, round_id) == first
    document = json.loads(first)
    assert canonical(document) == first
    assert set(document) == {"format", "inputs", "results"}
    assert b"settlementTxid" not in first
    assert b"finality" not in first
    etag = hashlib.sha256(first).hexdigest()
    again = await api.http.get(
        f"/rounds/{round_id}/bundle", headers={"If-None-Match": f'W/"x", "{etag}"'}
    )
    assert (again.status_code, again.content) == (304, b"")
    assert "immutable" in again.headers["cache-control"]


async def test_a_bundle_holds_though_a_reorg_took_the_opening_and_the_closing_block(
    api: Api, tmp_path: Path
) -> None:
    world = api.world
    entry = await world.enter()
    await world.hold(await world.place(entry.content_id, 50))
    opening = world.source.best
    world.source.mine(2, on=world.source.at(97), name="22")
    await world.follower.poll()  # less work: nothing happens
    assert (await world.round(100)).state == "open"
    closing = world.source.mine(2, name="22")[-1]
    await world.follower.poll()
    world.source.mine(6, on=world.source.at(98), name="33")
    await world.follower.poll()
    await world.look()
    document = json.loads(await bundle_of(api, 100))
    assert document["inputs"]["openingBlock"]["hash"] == opening.hash
    assert document["inputs"]["closingBlock"] == {"hash": closing.hash, "height": 101}
    assert len(document["inputs"]["headers"]) == 2
    path = tmp_path / "bundle.json"
    path.write_bytes(canonical(document))
    code, output = await verify(path)
    assert code == 0, output
    assert f"closed by block 101 of regtest, {closing.hash}" in output


async def test_a_refunded_rounds_bundle_still_holds(api: Api, tmp_path: Path) -> None:
    """The carry that it took is another round's by now."""
    left = await play(api.world, Random(3), memes=2, votes=10)
    entry = await api.world.enter()
    await api.world.hold(await api.world.place(entry.content_id, 50))
    await api.world.block()
    await api.world.look()
    (_, closed) = await api.world.events("round.closed")
    assert [each["roundId"] for each in closed["carrySources"]] == [str(left)]
    before = await bundle_of(api, int(closed["roundId"]))
    whole = {"roundId": closed["roundId"], "voteId": [], "reason": "round_refunded"}
    await api.world.tell("memepool.payments.stake.refunded.v1", whole)
    after = await play(api.world, Random(4), memes=2, votes=10)
    assert await bundle_of(api, int(closed["roundId"])) == before
    results = (await api.get(f"/rounds/{closed['roundId']}/results")).json()
    assert results["carryIn"] == sum(each["amount"] for each in results["carrySources"]) > 0
    files = [tmp_path / "refunded.json", tmp_path / "after.json"]
    files[0].write_bytes(before)
    files[1].write_bytes(await bundle_of(api, after))
    code, output = await verify(*files)
    assert code == 0, output
    assert json.loads(files[1].read_bytes())["inputs"]["carrySources"] == closed["carrySources"]


def _more_to_the_first(bundle: Document) -> None:
    bundle["results"]["rewards"][0]["amount"] += 1


def _a_vote_less(bundle: Document) -> None:
    del bundle["inputs"]["votes"][3]


def _a_larger_vote(bundle: Document) -> None:
    bundle["inputs"]["votes"][0]["amount"] += 1


def _votes_swapped(bundle: Document) -> None:
    votes = bundle["inputs"]["votes"]
    votes[0], votes[1] = votes[1], votes[0]


def _a_vote_twice(bundle: Document) -> None:
    votes = bundle["inputs"]["votes"]
    votes.append(votes[-1] | {"sequence": votes[-1]["sequence"] + 1})


def _a_vote_for_oneself(bundle: Document) -> None:
    bundle["inputs"]["votes"][0]["voterId"] = bundle["inputs"]["submissions"][0]["creatorId"]
    bundle["inputs"]["votes"][0]["contentId"] = bundle["inputs"]["submissions"][0]["contentId"]


def _a_header_without_work(bundle: Document) -> None:
    bundle["inputs"]["network"] = "main"


def _a_header_less(bundle: Document) -> None:
    del bundle["inputs"]["headers"][0]


def _another_closing_block(bundle: Document) -> None:
    bundle["inputs"]["closingBlock"]["hash"] = "00" * 32


def _another_fee(bundle: Document) -> None:
    bundle["inputs"]["policy"]["feeBp"] -= 10
    bundle["inputs"]["policy"]["creatorsBp"] += 10


def _another_carry(bundle: Document) -> None:
    bundle["inputs"]["carrySources"] = [{"amount": 5, "roundId": "1"}]


def _a_carry_twice(bundle: Document) -> None:
    bundle["inputs"]["carrySources"] *= 2
    _recomputed(bundle)


def _a_carry_that_takes(bundle: Document) -> None:
    bundle["inputs"]["carrySources"] = [{"amount": -5, "roundId": "1"}]
    _recomputed(bundle)


def _recomputed(bundle: Document) -> None:
    """Results and roots that follow from what was changed: only the change itself is wrong."""
    bundle["results"] = runpy.run_path(str(VERIFIER))["recompute"](bundle["inputs"])


def _a_carry_of_its_own(bundle: Document) -> None:
    bundle["inputs"]["carrySources"][0]["roundId"] = bundle["inputs"]["roundId"]


def _closed_by_its_opening_block(bundle: Document) -> None:
    inputs = bundle["inputs"]
    opening = inputs["openingBlock"]
    closing = {"hash": opening["hash"], "height": opening["height"]}
    inputs |= {"closingBlock": closing, "headers": [opening["header"]]}
    _recomputed(bundle)


def _a_header_with_a_negative_target(bundle: Document) -> None:
    inputs = bundle["inputs"]
    last = bytes.fromhex(inputs["headers"][-1])
    nonce, hashed, forged = 0, b"\xff", b""
    while hashed >= bytes.fromhex("007fffff") + bytes(28):  # what the bits say without their sign
        nonce += 1
        forged = last[:72] + bytes.fromhex("ffffff1f") + nonce.to_bytes(4, "little")
        hashed = hashlib.sha256(hashlib.sha256(forged).digest()).digest()[::-1]
    inputs["headers"][-1] = forged.hex()
    inputs["closingBlock"]["hash"] = hashed.hex()
    _recomputed(bundle)


def _policy(**changes: object) -> Callable[[Document], None]:
    """A policy that rounds cannot have, though all follows from it."""

    def change(bundle: Document) -> None:
        bundle["inputs"]["policy"] |= changes
        _recomputed(bundle)

    return change


def _an_id_spelt_otherwise(bundle: Document) -> None:
    vote = bundle["inputs"]["votes"][0]
    vote["voterId"] = vote["voterId"].upper()
    _recomputed(bundle)


def _a_sum_of_another_type(bundle: Document) -> None:
    bundle["results"]["pot"] = float(bundle["results"]["pot"])


def _an_amount_of_another_type(bundle: Document) -> None:
    bundle["inputs"]["carrySources"][0]["amount"] = True


def _a_float(bundle: Document) -> None:
    bundle["inputs"]["votes"][0] |= {"amount": 1e3}


def _nothing_there(bundle: Document) -> None:
    del bundle["inputs"]["votes"]


DOCTORS: list[Callable[[Document], None]] = [
    *(_more_to_the_first, _a_vote_less, _a_larger_vote, _votes_swapped, _a_vote_twice),
    *(_a_vote_for_oneself, _a_header_without_work, _a_header_less, _another_closing_block),
    *(_another_fee, _another_carry, _a_carry_twice, _a_carry_that_takes, _a_float),
    *(_nothing_there, _a_carry_of_its_own, _closed_by_its_opening_block),
    *(_a_header_with_a_negative_target, _an_id_spelt_otherwise, _a_sum_of_another_type),
    _an_amount_of_another_type,
    *(_policy(curve="cubic"), _policy(minStake=0), _policy(minStake=True)),
    *(_policy(placesBp=[96, 288, 576]), _policy(creatorsBp=3333, feeBp=1867)),
    *(_policy(tiers=[{"first": first, "last": 5, "bp": 3840}]) for first in (0, 2, -2)),
]


async def test_a_doctored_bundle_does_not_hold(api: Api, tmp_path: Path) -> None:
    await play(api.world, Random(2), memes=3, votes=20)
    round_id = await play(api.world, Random(2), memes=3, votes=20)
    honest = json.loads(await bundle_of(api, round_id))
    assert len(honest["inputs"]["carrySources"]) == 1
    path = tmp_path / "bundle.json"
    for doctor in DOCTORS:
        doctored = copy.deepcopy(honest)
        doctor(doctored)
        path.write_bytes(canonical(doctored))
        code, output = await verify(path)
        assert (code, "WRONG" in output) == (1, True), (doctor.__name__, output)
    path.write_text(json.dumps(honest))
    code, output = await verify(path)
    assert (code, "canonical" in output) == (1, True)
    for unreadable in ("{", '{"format":"memepool-round-1"}', "[" * 100_000):
        path.write_text(unreadable)
        code, output = await verify(path)
        assert (code, "cannot be read" in output) == (2, True), output
    for malformed in ("[]", "5", "{}"):
        path.write_text(malformed)
        code, output = await verify(path)
        assert (code, "malformed" in output) == (1, True), output


async def test_every_vote_and_reward_is_proven(api: Api, tmp_path: Path) -> None:
    entry = await api.world.enter()
    wishes = [wish(entry.content_id, 10) for _ in range(CHUNK_VOTES + 3)]
    placed = [each for each in await api.world.place_all(wishes) if isinstance(each, StoredVote)]
    await api.world.hold(*placed[1:])
    await api.world.refuse(placed[0])
    early = await api.get(f"/rounds/100/proofs/{placed[1].id}")
    assert (early.status_code, early.json()["code"]) == (409, "results_not_ready")
    await api.world.block()
    await api.world.look()
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(await bundle_of(api, 100))
    rewards = len(json.loads(bundle.read_bytes())["results"]["rewards"])
    some = [placed[1], placed[2], placed[700], *placed[CHUNK_VOTES - 1 :]]
    leaves = [str(vote.id) for vote in some]
    leaves += ["fee", "carryOut", *map(str, range(rewards))]
    files = [bundle]
    for leaf in leaves:
        answer = await api.get(f"/rounds/100/proofs/{leaf}")
        assert answer.status_code == 200, answer.text
        files.append(tmp_path / f"{leaf}.json")
        files[-1].write_bytes(answer.content)
    code, output = await verify(*files)
    assert code == 0, output
    assert output.count(" holds: the ") == len(leaves)
    first = json.loads(files[1].read_bytes())
    assert (first["vote"]["voteId"], first["reward"], first["index"]) == (leaves[0], None, 0)
    assert json.loads(files[-1].read_bytes())["index"] == rewards + 1
    last = json.loads(files[len(some)].read_bytes())  # the odd one of 1,026: others have its sides
    for doctored in (
        *(first | {"index": 1}, first | {"vote": first["vote"] | {"amount": 11}}),
        *(last | {"index": index} for index in (-1, 1, 1023, 1026, 2048)),
        first | {"reward": {"recipient": "", "reason": "fee", "amount": 1}},
    ):
        files[1].write_text(json.dumps(doctored))
        code, output = await verify(bundle, files[1])
        assert (code, "WRONG" in output) == (1, True), output
    for leaf, status, problem in [
        (str(placed[0].id), 404, "vote_not_found"),
        (str(uuid7()), 404, "vote_not_found"),
        (str(rewards), 404, "reward_not_found"),
        ("-1", 422, "invalid_request"),
        ("nonsense", 422, "invalid_request"),
    ]:
        refused = await api.get(f"/rounds/100/proofs/{leaf}")
        assert (refused.status_code, refused.json()["code"]) == (status, problem)
