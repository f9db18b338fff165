"""Bitcoin Signed Message: published vectors, the judge's, wallets' quirks, hostile input."""

import base64

import pytest
from bsv import PrivateKey as Judge
from bsv import verify_signed_text
from hypothesis import given
from hypothesis import strategies as st

from memepool_chain.address import AddressError, address_of
from memepool_chain.hashing import sha256
from memepool_chain.keys import PrivateKey, uncompressed
from memepool_chain.message import SignatureError, sign_bsm, verify_bsm
from memepool_chain.network import MAIN, REGTEST

KEY = PrivateKey.from_bytes(sha256(b""))  # the key that other libraries' vectors use
COMPRESSED = "1F3sAm6ZtwLAUnj7d38pGFxtP3RVEvtsbV"
UNCOMPRESSED = "1HZwkjkeaoZfTSaJxDw6aKkxp45agDiEzN"
ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141


def with_header(signature: str, header: int) -> str:
    return base64.b64encode(bytes([header]) + base64.b64decode(signature)[1:]).decode()


def refusal(message: str, signature: str, address: str) -> str:
    with pytest.raises(SignatureError) as caught:
        verify_bsm(message, signature, address, MAIN)
    return caught.value.code


@pytest.mark.parametrize(
    ("compressed", "address", "signature"),
    [
        (
            True,
            COMPRESSED,
            "ILtpIVksn3ie1AyKSjU/Hokv1HvMlRmersHqQSodEcnHZ4A8cT/2MSxFQ88kPftQWjPx7gAVFXiKSpX7Itu7UgA=",
        ),
        (
            False,
            UNCOMPRESSED,
            "HLtpIVksn3ie1AyKSjU/Hokv1HvMlRmersHqQSodEcnHZ4A8cT/2MSxFQ88kPftQWjPx7gAVFXiKSpX7Itu7UgA=",
        ),
    ],
)
def test_published_signatures_of_foobar(compressed: bool, address: str, signature: str) -> None:
    assert sign_bsm("foobar", KEY, compressed=compressed) == signature
    signer = verify_bsm("foobar", signature, address, MAIN)
    assert (signer.public_key, signer.address) == (KEY.public_key, COMPRESSED)


def test_a_published_signature_that_we_did_not_make() -> None:
    signer = verify_bsm(
        "This is an example of a signed message.",
        "H9L5yLFjti0QTHhPyFrZCT1V/MMnBtXKmoiKDZ78NDBjERki6ZTQZdSMCtkgoNmp17By9ItJr8o7ChX0XxY91nk=",
        COMPRESSED,
        MAIN,
    )
    assert signer.address == COMPRESSED


def test_unisat_claims_an_uncompressed_key_and_means_the_compressed_one() -> None:
    honest = sign_bsm("sign in", KEY)
    signature = with_header(honest, base64.b64decode(honest)[0] - 4)
    assert not verify_signed_text("sign in", COMPRESSED, signature)  # a strict library says no
    assert verify_bsm("sign in", signature, COMPRESSED, MAIN).address == COMPRESSED


def test_the_opposite_claim_is_forgiven_too() -> None:
    signature = sign_bsm("sign in", KEY, compressed=True)
    assert verify_bsm("sign in", signature, UNCOMPRESSED, MAIN).address == COMPRESSED


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_the_judge_and_we_accept_each_other(message: str) -> None:
    judge = Judge(KEY.to_bytes())
    address, theirs = judge.sign_text(message)
    assert verify_bsm(message, theirs, address, MAIN).public_key == KEY.public_key
    assert verify_signed_text(message, COMPRESSED, sign_bsm(message, KEY))


def test_addresses_of_other_networks() -> None:
    address = address_of(KEY.public_key, REGTEST)
    signature = sign_bsm("sign in", KEY)
    assert verify_bsm("sign in", signature, address, REGTEST).address == address
    with pytest.raises(AddressError):
        verify_bsm("sign in", signature, address, MAIN)


def test_high_s_is_the_same_signer() -> None:
    data = base64.b64decode(sign_bsm("sign in", KEY))
    high_s = (ORDER - int.from_bytes(data[33:])).to_bytes(32)
    other_parity = ((data[0] - 27) ^ 1) + 27
    mirrored = base64.b64encode(bytes([other_parity]) + data[1:33] + high_s).decode()
    assert verify_bsm("sign in", mirrored, COMPRESSED, MAIN).public_key == KEY.public_key


def test_another_message_or_address_is_a_mismatch() -> None:
    signature = sign_bsm("sign in", KEY)
    stranger = address_of(PrivateKey.generate().public_key, MAIN)
    assert refusal("sign in ", signature, COMPRESSED) == "signature_mismatch"
    assert refusal("sign in", signature, stranger) == "signature_mismatch"


@pytest.mark.parametrize("header", range(35, 43))
def test_segwit_headers_have_a_code_of_their_own(header: int) -> None:
    signature = with_header(sign_bsm("sign in", KEY), header)
    assert refusal("sign in", signature, COMPRESSED) == "segwit_signature"


GOOD = sign_bsm("sign in", KEY)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "not base64!",
        "é" * 88,
        GOOD + "\n",
        " " + GOOD,
        GOOD[:-1],
        GOOD[:-4],
        GOOD + GOOD,
        GOOD.replace("=", "A"),
        GOOD[:10] + "\n" + GOOD[11:],
        with_header(GOOD, 0),
        with_header(GOOD, 26),
        with_header(GOOD, 43),
        with_header(GOOD, 255),
        base64.b64encode(b"\x1f" + bytes(64)).decode(),  # r = s = 0
        base64.b64encode(b"\x1f" + b"\xff" * 64).decode(),  # beyond the group order
        base64.b64encode(b"\x21" + b"\xfe" + bytes(62) + b"\x01").decode(),  # no such point
        "A" * 10_000_000,
    ],
)
def test_malformed_signatures(signature: str) -> None:
    assert refusal("sign in", signature, COMPRESSED) == "malformed_signature"


@given(st.binary(min_size=65, max_size=65), st.text(max_size=20))
def test_no_bytes_raise_anything_else(data: bytes, message: str) -> None:
    signature = base64.b64encode(data).decode()
    with pytest.raises(SignatureError):
        verify_bsm(message, signature, COMPRESSED, MAIN)


def test_a_message_without_utf8_cannot_be_signed_by_a_wallet_but_breaks_nothing() -> None:
    assert refusal("\ud800", GOOD, COMPRESSED) == "signature_mismatch"


def test_the_vectors_addresses_are_those_of_the_key() -> None:
    assert address_of(KEY.public_key, MAIN) == COMPRESSED
    assert address_of(uncompressed(KEY.public_key), MAIN) == UNCOMPRESSED
