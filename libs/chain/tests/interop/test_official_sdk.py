"""Our signatures against the official SDK's, in both directions."""

import base64
from collections.abc import Callable
from typing import Any

import pytest

from memepool_chain.address import address_of
from memepool_chain.brc42 import ANYONE, derive_private_key, derive_public_key
from memepool_chain.brc77 import sign_brc77, verify_brc77
from memepool_chain.brc100 import COUNTERPARTY, Purpose, sign_brc100, verify_brc100
from memepool_chain.keys import PrivateKey
from memepool_chain.message import SignatureError, sign_bsm, verify_bsm
from memepool_chain.network import MAIN

KEYS = [PrivateKey.generate() for _ in range(4)]
MESSAGES = ["", "memepool.test wants you to sign in\n", "großer Schein \U0001f438", "x" * 1_000]
PAIRS = list(zip(KEYS, MESSAGES, strict=True))
PURPOSE = Purpose(2, "memepool login", "3f" * 16)

Judge = Callable[..., list[Any]]


def asked(act: str, key: PrivateKey, message: str, **more: Any) -> dict[str, Any]:
    return {"act": act, "key": key.to_bytes().hex(), "message": message, **more}


def for_purpose() -> dict[str, Any]:
    protocol = [PURPOSE.security_level, PURPOSE.protocol]
    return {"protocolID": protocol, "keyID": PURPOSE.key_id}


def encoded(signature: bytes) -> str:
    return base64.b64encode(signature).decode()


def test_the_sdk_derives_the_same_children(judge: Judge) -> None:
    invoices = ["2-message signing-abc=", "2-memepool login-1", "", "ä"]
    others = [*KEYS[1:], ANYONE]
    requests = [
        {
            "act": "deriveChild",
            "key": KEYS[0].to_bytes().hex(),
            "counterparty": other.public_key.hex(),
            "invoice": invoice,
        }
        for other, invoice in zip(others, invoices, strict=True)
    ]
    for other, invoice, answer in zip(others, invoices, judge(*requests), strict=True):
        child = derive_private_key(KEYS[0], other.public_key, invoice)
        assert child.to_bytes().hex() == answer["privateKey"]
        public_key = derive_public_key(KEYS[0].public_key, other, invoice)
        assert public_key.hex() == answer["publicKey"]


def test_we_accept_what_the_sdk_signs(judge: Judge) -> None:
    acts = [("signBsm", {}), ("signBrc77", {}), ("signBrc100", for_purpose())]
    for_anyone = {"counterparty": COUNTERPARTY}
    requests = [
        asked(act, key, message, **more, **(for_anyone if act == "signBrc100" else {}))
        for act, more in acts
        for key, message in PAIRS
    ]
    signed = judge(*requests)
    for i, (key, message) in enumerate(PAIRS):
        address = address_of(key.public_key, MAIN)
        bsm, brc77, brc100 = signed[i], signed[i + 4], signed[i + 8]
        assert verify_bsm(message, bsm, address, MAIN).public_key == key.public_key
        signer = verify_brc77(message, base64.b64decode(brc77), address, MAIN)
        assert (signer.public_key, signer.address) == (key.public_key, address)
        signature = base64.b64decode(brc100)
        signer = verify_brc100(message, signature, PURPOSE, key.public_key, address, MAIN)
        assert signer.address == address


def test_the_sdk_accepts_what_we_sign(judge: Judge) -> None:
    requests = []
    for key, message in PAIRS:
        given = {"message": message, "publicKey": key.public_key.hex()}
        brc100 = encoded(sign_brc100(message, PURPOSE, key))
        requests += [
            {"act": "verifyBsm", "signature": sign_bsm(message, key), **given},
            {"act": "verifyBrc77", "signature": encoded(sign_brc77(message, key)), **given},
            {"act": "verifyBrc100", "signature": brc100, **given, **for_purpose()},
        ]
    assert judge(*requests) == [True] * len(requests)
    other = {"message": "another text", "publicKey": KEYS[1].public_key.hex()}
    signed = encoded(sign_brc77("a text", KEYS[1]))
    assert judge({"act": "verifyBrc77", "signature": signed, **other}) == [False]


def test_a_message_for_a_certain_recipient_is_refused_with_its_reason(judge: Judge) -> None:
    recipient = {"recipient": KEYS[1].public_key.hex()}
    (signed,) = judge(asked("signBrc77For", KEYS[0], "text", **recipient))
    address = address_of(KEYS[0].public_key, MAIN)
    with pytest.raises(SignatureError, match="for a certain recipient") as caught:
        verify_brc77("text", base64.b64decode(signed), address, MAIN)
    assert caught.value.code == "malformed_signature"
