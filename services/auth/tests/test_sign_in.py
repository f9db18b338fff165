"""Challenge and verify: what a wallet goes through, and everything that can be wrong with it."""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest

from memepool_chain.address import encode_p2pkh
from memepool_chain.keys import uncompressed
from memepool_chain.network import MAIN
from services.auth.tests.harness import Owner, Replica, Start, Wallet, assert_problem

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHALLENGE, VERIFY = "/auth/challenge", "/auth/verify"


async def challenge(auth: Replica, wallet: Wallet) -> dict[str, Any]:
    answer = await auth.http.post(CHALLENGE, json={"walletAddress": wallet.address})
    assert answer.status_code == 201
    body: dict[str, Any] = answer.json()
    return body


async def test_the_challenge_is_the_text_that_the_reference_lays_out(auth: Replica) -> None:
    wallet = Wallet()
    body = await challenge(auth, wallet)
    lines = body["message"].split("\n")
    assert lines[:7] == [
        "memepool.test wants you to sign in with your BSV account:",
        wallet.address,
        "",
        "Sign in to Memepool. This costs nothing and moves no money.",
        "",
        "URI: https://memepool.test/login",
        "Version: 1",
    ]
    assert [line.partition(": ")[0] for line in lines[7:]] == [
        "Chain ID",
        "Nonce",
        "Issued At",
        "Expiration Time",
        "Request ID",
    ]
    assert f"Nonce: {body['nonce']}" in lines
    assert set(body) == {"nonce", "message", "expiresAt", "brc100"}


async def test_the_domain_is_never_taken_from_the_request(auth: Replica) -> None:
    asked = {"walletAddress": Wallet().address}
    answer = await auth.http.post(CHALLENGE, json=asked, headers={"Host": "evil.example"})
    assert "evil" not in answer.json()["message"]


async def test_a_signed_challenge_gives_user_and_grant(auth: Replica) -> None:
    wallet = Wallet()
    answer = await auth.http.post(VERIFY, json=await auth.prove(wallet))
    assert answer.status_code == 200
    user = answer.json()["user"]
    assert user["walletAddress"] == wallet.address
    assert user["role"] == "viewer"
    assert user["stats"] == {
        "uploads": 0,
        "submissions": 0,
        "votes": 0,
        "satsStaked": 0,
        "roundsWon": 0,
        "satsEarned": 0,
    }
    assert answer.json()["grant"]


async def test_without_a_signature_the_answer_brings_a_challenge(auth: Replica) -> None:
    wallet = Wallet()
    answer = await auth.http.post(VERIFY, json={"walletAddress": wallet.address})
    given = assert_problem(answer, 401, "signature_required")["challenge"]
    proof = {"walletAddress": wallet.address, "signature": wallet.sign(given["message"])}
    assert (await auth.http.post(VERIFY, json=proof)).status_code == 200


async def test_the_nonce_is_needed_once_two_challenges_are_open(auth: Replica) -> None:
    wallet = Wallet()
    first, _ = await challenge(auth, wallet), await challenge(auth, wallet)
    proof = {"walletAddress": wallet.address, "signature": wallet.sign(first["message"])}
    assert_problem(await auth.http.post(VERIFY, json=proof), 422, "nonce_required")
    proof["nonce"] = first["nonce"]
    assert (await auth.http.post(VERIFY, json=proof)).status_code == 200


async def test_without_an_open_challenge_a_signature_is_worth_nothing(auth: Replica) -> None:
    wallet = Wallet()
    proof = {"walletAddress": wallet.address, "signature": wallet.sign("anything")}
    assert_problem(await auth.http.post(VERIFY, json=proof), 401, "no_open_challenge")


async def test_both_address_forms_and_both_header_bytes_are_one_user(auth: Replica) -> None:
    wallet = Wallet()
    users = set()
    for address in (wallet.address, wallet.uncompressed_address):
        for compressed in (True, False):
            asked = await auth.http.post(CHALLENGE, json={"walletAddress": address})
            signature = wallet.sign(asked.json()["message"], compressed=compressed)
            proof = {
                "walletAddress": address,
                "signature": signature,
                "nonce": asked.json()["nonce"],
            }
            answer = await auth.http.post(VERIFY, json=proof)
            assert answer.status_code == 200, answer.text
            assert answer.json()["user"]["walletAddress"] == wallet.address
            users.add(answer.json()["user"]["id"])
    assert len(users) == 1


async def test_a_public_key_may_come_along_if_it_is_the_one_that_signed(auth: Replica) -> None:
    wallet, other = Wallet(), Wallet()
    for form in (bytes, uncompressed):
        proof = await auth.prove(wallet)
        proof["publicKey"] = form(wallet.key.public_key).hex()
        assert (await auth.http.post(VERIFY, json=proof)).status_code == 200
        proof = await auth.prove(wallet)
        proof["publicKey"] = form(other.key.public_key).hex()
        assert_problem(await auth.http.post(VERIFY, json=proof), 401, "public_key_mismatch")


async def test_a_malformed_public_key_costs_no_nonce(auth: Replica) -> None:
    wallet = Wallet()
    proof = await auth.prove(wallet)
    own = wallet.key.public_key.hex()
    point = uncompressed(wallet.key.public_key)[1:]
    hybrid = bytes([6 + point[-1] % 2]) + point
    otherwise = (f"{own[:2]} {own[2:]}", f"{own}\n", hybrid.hex())
    for key in ("", "02", "zz" * 33, "05" + "11" * 32, "02" + "ff" * 32, *otherwise):
        bad = await auth.http.post(VERIFY, json=proof | {"publicKey": key})
        assert_problem(bad, 422, "malformed_public_key")
    assert (await auth.http.post(VERIFY, json=proof)).status_code == 200


async def test_another_scheme_is_refused_naming_what_is_accepted(auth: Replica) -> None:
    proof = await auth.prove(Wallet())
    for scheme in ("bip322", "bip322-simple", "ecdsa", "BSM", "brc-77", "\u0430"):
        bad = await auth.http.post(VERIFY, json=proof | {"scheme": scheme})
        body = assert_problem(bad, 422, "scheme_not_accepted")
        assert body["accepted"] == ["bsm", "brc100", "brc77"]
    assert (await auth.http.post(VERIFY, json=proof)).status_code == 200


def compact(header: int) -> str:
    return base64.b64encode(bytes([header]) + b"\x11" * 64).decode()


BAD_SIGNATURES = [
    ("not base64!", 422, "malformed_signature"),
    ("AAAA", 422, "malformed_signature"),
    (compact(26), 422, "malformed_signature"),
    (compact(35), 422, "segwit_signature"),
    (compact(42), 422, "segwit_signature"),
    (base64.b64encode(b"\x1f" + b"\xff" * 64).decode(), 422, "malformed_signature"),
    (base64.b64encode(b"\x1f" + b"\x00" * 64).decode(), 422, "malformed_signature"),
    (Wallet().sign("another text"), 401, "signature_mismatch"),
]


async def test_a_bad_signature_has_its_code_and_uses_the_nonce_up(auth: Replica) -> None:
    for signature, status, code in BAD_SIGNATURES:
        proof = await auth.prove(Wallet())
        bad = await auth.http.post(VERIFY, json=proof | {"signature": signature})
        assert_problem(bad, status, code)
        assert_problem(await auth.http.post(VERIFY, json=proof), 401, "nonce_used")


async def test_somebody_elses_signature_is_no_use(auth: Replica) -> None:
    wallet, other = Wallet(), Wallet()
    body = await challenge(auth, wallet)
    proof = {
        "walletAddress": wallet.address,
        "nonce": body["nonce"],
        "signature": other.sign(body["message"]),
    }
    assert_problem(await auth.http.post(VERIFY, json=proof), 401, "signature_mismatch")


async def test_nonces_unknown_used_expired_and_foreign(auth: Replica, as_owner: Owner) -> None:
    wallet = Wallet()
    proof = await auth.prove(wallet)
    assert (await auth.http.post(VERIFY, json=proof)).status_code == 200
    assert_problem(await auth.http.post(VERIFY, json=proof), 401, "nonce_used")
    unknown = proof | {"nonce": "0" * 32}
    assert_problem(await auth.http.post(VERIFY, json=unknown), 401, "nonce_unknown")
    others = await challenge(auth, Wallet())
    foreign = proof | {"nonce": others["nonce"]}
    assert_problem(await auth.http.post(VERIFY, json=foreign), 401, "nonce_foreign")
    late = await auth.prove(wallet)
    await as_owner("update challenge set expires_at = now() where used_at is null")
    assert_problem(await auth.http.post(VERIFY, json=late), 401, "nonce_expired")
    del late["nonce"]
    assert_problem(await auth.http.post(VERIFY, json=late), 401, "no_open_challenge")


async def test_refusals_do_not_tell_whether_a_wallet_is_known(auth: Replica) -> None:
    known, unknown = Wallet(), Wallet()
    await auth.sign_in(known)
    answers = []
    for wallet in (known, unknown):
        proof = await auth.prove(wallet)
        proof["signature"] = Wallet().sign("something else")
        answer = await auth.http.post(VERIFY, json=proof)
        answers.append((answer.status_code, answer.json() | {"traceId": None}))
    assert answers[0] == answers[1]


BAD_ADDRESSES: list[tuple[Any, str]] = [
    ("x", "malformed_address"),
    ("1BitcoinEaterAddressDontSendf59kuF", "malformed_address"),
    ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "malformed_address"),
    (encode_p2pkh(bytes(20), MAIN), "wrong_network"),
    ("\u0661" * 30, "malformed_address"),
    ("", "invalid_request"),
    ("m" * 65, "invalid_request"),
    ("a\x00b", "invalid_request"),
    (None, "invalid_request"),
    (7, "invalid_request"),
    (["x"], "invalid_request"),
]


async def test_a_bad_address_is_named(auth: Replica) -> None:
    for path in (CHALLENGE, VERIFY):
        for address, code in BAD_ADDRESSES:
            answer = await auth.http.post(path, json={"walletAddress": address})
            body = assert_problem(answer, 422, code)
            assert body["errors"][0]["pointer"] == "/walletAddress"


async def test_a_bad_body_is_a_problem(auth: Replica) -> None:
    headers = {"Content-Type": "application/json"}
    for path in (CHALLENGE, VERIFY, "/auth/session"):
        for content, status, code in (
            (b"", 422, "invalid_request"),
            (b"{", 400, "malformed_json"),
            (b"[]", 422, "invalid_request"),
            (b"null", 422, "invalid_request"),
            (b"\xff\xfe", 400, "malformed_json"),
            (b'{"a":' * 20_000, 413, "body_too_large"),
            (b'{"a":' * 12_000, 400, "malformed_request"),
        ):
            answer = await auth.http.post(path, content=content, headers=headers)
            assert_problem(answer, status, code)


async def test_a_bad_value_is_refused_by_name(auth: Replica) -> None:
    proof = {"walletAddress": Wallet().address, "signature": "AAAA", "nonce": "0" * 32}
    headers = {"Content-Type": "application/json"}
    values: list[Any] = ["\ud800", "a\x00", "", "x" * 2_000, 1, True, [], {}]
    for field in ("walletAddress", "nonce", "signature", "scheme", "publicKey"):
        for value in values:
            content = json.dumps(proof | {field: value}).encode()
            answer = await auth.http.post(VERIFY, content=content, headers=headers)
            if (field, value) == ("publicKey", ""):
                assert_problem(answer, 422, "malformed_public_key")
            else:
                body = assert_problem(answer, 422, "invalid_request")
                assert body["errors"][0]["pointer"] == f"/{field}"


async def ask(auth: Replica, wallet: Wallet, address: str) -> httpx.Response:
    headers = {"X-Forwarded-For": address}
    asked = {"walletAddress": wallet.address}
    return await auth.http.post(CHALLENGE, json=asked, headers=headers)


async def test_a_stranger_who_asks_for_many_challenges_keeps_nobody_out(start: Start) -> None:
    auth, wallet = await start(challenges_per_address_max=4), Wallet()
    proof = await auth.prove(wallet)  # the owner takes a while to sign
    for i in range(12):  # in the owner's name, and so that the whole network has asked for many
        assert (await ask(auth, wallet, f"203.0.113.{i % 2}")).status_code == 201
    assert (await auth.http.post(VERIFY, json=proof)).status_code == 200
    for _ in range(12):
        assert (await ask(auth, Wallet(), "127.0.0.1")).status_code == 201
    assert (await auth.http.post(VERIFY, json=await auth.prove(wallet))).status_code == 200


async def test_the_oldest_challenges_give_way_in_all(start: Start, as_owner: Owner) -> None:
    auth = await start(challenges_max=4)
    for i in range(9):
        assert (await ask(auth, Wallet(), f"198.51.{i}.1")).status_code == 201
    assert (await as_owner("select count(*) as n from challenge"))[0].n == 4


async def test_challenges_are_bounded_per_address(start: Start, as_owner: Owner) -> None:
    auth = await start(challenges_per_address_max=2)
    for addresses in (("203.0.113.7",), ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2")):
        for i in range(5):
            await ask(auth, Wallet(), addresses[i % len(addresses)])
    await ask(auth, Wallet(), "203.0.113.8")
    await ask(auth, Wallet(), "2001:db8:0:2::1")
    rows = await as_owner("select count(*) as n from challenge group by address_key order by n")
    assert [row.n for row in rows] == [1, 1, 2, 2]


async def test_a_challenge_is_for_one_site(start: Start) -> None:
    here, elsewhere = await start(), await start(domain="other.test")
    wallet = Wallet()
    proof = await elsewhere.prove(wallet)
    assert_problem(await here.http.post(VERIFY, json=proof), 401, "nonce_foreign")
    unnamed = {key: value for key, value in proof.items() if key != "nonce"}
    assert_problem(await here.http.post(VERIFY, json=unnamed), 401, "no_open_challenge")
    assert (await elsewhere.http.post(VERIFY, json=proof)).status_code == 200


async def test_one_nonce_serves_one_of_many_attempts_on_two_replicas(start: Start) -> None:
    replicas = [await start(), await start()]
    proof = await replicas[0].prove(Wallet())
    answers = await asyncio.gather(
        *(replicas[i % 2].http.post(VERIFY, json=proof) for i in range(10))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 9
    assert {a.json()["code"] for a in answers if a.status_code == 401} == {"nonce_used"}


async def test_a_wallet_that_signs_in_twice_at_once_is_one_user(start: Start) -> None:
    replicas, wallet = [await start(), await start()], Wallet()
    proofs = [await replicas[0].prove(wallet) for _ in range(4)]
    answers = await asyncio.gather(
        *(replicas[i % 2].http.post(VERIFY, json=proof) for i, proof in enumerate(proofs))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["user"]["id"] for answer in answers}) == 1


async def test_only_a_network_prefix_of_the_client_is_kept(start: Start, as_owner: Owner) -> None:
    auth = await start()
    prefixes = set()
    for address in ("203.0.113.77", "2001:db8:1:2:3:4:5:6", "forged"):
        headers = {"X-Forwarded-For": f"9.9.9.9, {address}"}
        proof = await auth.prove(Wallet())
        opened = await auth.http.post("/auth/session", json=proof, headers=headers)
        prefixes.add(opened.json()["session"]["addressPrefix"])
        await auth.http.post(VERIFY, json=proof, headers=headers)  # fails, and is counted
    assert prefixes == {"203.0.113.0/24", "2001:db8:1:2::/64", None}
    stored = [
        str(row)
        for name in ("challenge", "session", "audit_log", "sign_in_failure")
        for row in await as_owner(f"table {name}")
    ]
    assert len(stored) > 12
    assert not [row for row in stored if "113.77" in row or "1:2:3" in row or "9.9.9" in row]
