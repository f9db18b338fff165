"""Every wallet of the list signs in, as it does it; every other signature is refused by name."""

import base64
from collections.abc import Callable
from typing import Any

import pytest

from memepool_chain.brc77 import sign_brc77
from memepool_chain.brc100 import Purpose, sign_brc100
from memepool_chain.hashing import sha256
from memepool_chain.keys import uncompressed
from services.auth.tests.harness import Replica, Wallet, assert_problem

pytestmark = pytest.mark.asyncio(loop_scope="module")
VERIFY = "/auth/verify"
Challenge = dict[str, Any]
Body = dict[str, Any]


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def with_header(signature: str, offset: int) -> str:
    data = base64.b64decode(signature)
    return base64_of(bytes([data[0] + offset]) + data[1:])


def yours_legacy(wallet: Wallet, challenge: Challenge) -> Body:
    """Yours, Panda: signature and public key; header 31 to 34."""
    signature = wallet.sign(challenge["message"])
    return {"signature": signature, "publicKey": wallet.key.public_key.hex()}


def unisat(wallet: Wallet, challenge: Challenge) -> Body:
    """UniSat, OKX, OneKey: a signature only, whose header says "uncompressed" and is wrong."""
    return {"signature": with_header(wallet.sign(challenge["message"]), -4), "scheme": "bsm"}


def electrum_style(wallet: Wallet, challenge: Challenge) -> Body:
    """An old wallet with an uncompressed key, and the address of that."""
    signature = wallet.sign(challenge["message"], compressed=False)
    return {"signature": signature, "publicKey": uncompressed(wallet.key.public_key).hex()}


def brc100(wallet: Wallet, challenge: Challenge) -> Body:
    """Metanet Desktop, Yours 5: createSignature with the parameters of the challenge."""
    level, protocol = challenge["brc100"]["protocolId"]
    purpose = Purpose(level, protocol, challenge["brc100"]["keyId"])
    assert challenge["brc100"]["counterparty"] == "anyone"
    signature = base64_of(sign_brc100(challenge["message"], purpose, wallet.key))
    return {
        "signature": signature,
        "scheme": "brc100",
        "publicKey": wallet.key.public_key.hex(),
    }


def brc77(wallet: Wallet, challenge: Challenge) -> Body:
    """The SDK's SignedMessage, for anyone."""
    signed = base64_of(sign_brc77(challenge["message"], wallet.key))
    return {"signature": signed, "scheme": "brc77"}


WALLETS = [yours_legacy, unisat, electrum_style, brc100, brc77]


async def challenge_for(auth: Replica, address: str) -> Challenge:
    answer = await auth.http.post("/auth/challenge", json={"walletAddress": address})
    body: Challenge = answer.json()
    return body


async def test_each_wallet_signs_in_by_either_address_as_the_same_user(auth: Replica) -> None:
    wallet, users = Wallet(), set()
    for sign in WALLETS:
        for address in (wallet.address, wallet.uncompressed_address):
            challenge = await challenge_for(auth, address)
            body = {"walletAddress": address, "nonce": challenge["nonce"]}
            answer = await auth.http.post(VERIFY, json=body | sign(wallet, challenge))
            assert answer.status_code == 200, (sign.__name__, answer.text)
            users.add(answer.json()["user"]["id"])
    assert len(users) == 1


@pytest.mark.parametrize("sign", WALLETS)
async def test_a_signature_by_another_wallet_or_over_another_text_is_none(
    auth: Replica, sign: Callable[[Wallet, Challenge], Body]
) -> None:
    wallet, other = Wallet(), Wallet()
    for signer, message in ((other, None), (wallet, "another text")):
        challenge = await challenge_for(auth, wallet.address)
        body = {"walletAddress": wallet.address, "nonce": challenge["nonce"]}
        signed = sign(signer, challenge | ({"message": message} if message else {}))
        assert_problem(await auth.http.post(VERIFY, json=body | signed), 401, "signature_mismatch")


async def test_a_brc100_signature_is_for_its_own_nonce_and_purpose(auth: Replica) -> None:
    wallet = Wallet()
    key = {"scheme": "brc100", "publicKey": wallet.key.public_key.hex()}
    for purpose in (Purpose(2, "memepool login", "other"), Purpose(2, "memepool pay", "")):
        challenge = await challenge_for(auth, wallet.address)
        named = Purpose(2, purpose.protocol, purpose.key_id or challenge["nonce"])
        body = {"walletAddress": wallet.address, "nonce": challenge["nonce"], **key}
        body["signature"] = base64_of(sign_brc100(challenge["message"], named, wallet.key))
        assert_problem(await auth.http.post(VERIFY, json=body), 401, "signature_mismatch")


async def test_a_brc100_signature_needs_the_identity_key(auth: Replica) -> None:
    wallet = Wallet()
    challenge = await challenge_for(auth, wallet.address)
    body = {"walletAddress": wallet.address, "nonce": challenge["nonce"]}
    signed = brc100(wallet, challenge)
    unnamed = {name: value for name, value in signed.items() if name != "publicKey"}
    assert_problem(await auth.http.post(VERIFY, json=body | unnamed), 422, "public_key_required")
    # That cost no nonce.
    assert (await auth.http.post(VERIFY, json=body | signed)).status_code == 200


async def test_a_key_that_did_not_sign_is_named(auth: Replica) -> None:
    wallet, other = Wallet(), Wallet()
    challenge = await challenge_for(auth, wallet.address)
    body = {"walletAddress": wallet.address, "nonce": challenge["nonce"]}
    signed = brc77(wallet, challenge) | {"publicKey": other.key.public_key.hex()}
    assert_problem(await auth.http.post(VERIFY, json=body | signed), 401, "public_key_mismatch")


BIP322_WITNESS = base64_of(
    bytes.fromhex("0248") + b"0E" + bytes(70) + bytes.fromhex("21") + bytes(33)
)
MALFORMED = [
    ("bsm", BIP322_WITNESS, "malformed_signature"),
    ("bsm", base64_of(bytes([39]) + b"\x11" * 64), "segwit_signature"),
    ("bsm", base64_of(bytes([31]) + b"\x11" * 64) + "\n", "malformed_signature"),
    ("brc100", "not base64!", "malformed_signature"),
    ("brc100", base64_of(sha256(b"")), "malformed_signature"),
    ("brc100", base64_of(bytes(200)), "malformed_signature"),
    ("brc77", base64_of(bytes(100)), "malformed_signature"),
    ("brc77", "AB==", "malformed_signature"),
]


@pytest.mark.parametrize(("scheme", "signature", "code"), MALFORMED)
async def test_malformed_signatures(auth: Replica, scheme: str, signature: str, code: str) -> None:
    wallet = Wallet()
    challenge = await challenge_for(auth, wallet.address)
    body = {
        "walletAddress": wallet.address,
        "nonce": challenge["nonce"],
        "scheme": scheme,
        "publicKey": wallet.key.public_key.hex(),
        "signature": signature,
    }
    assert_problem(await auth.http.post(VERIFY, json=body), 422, code)
