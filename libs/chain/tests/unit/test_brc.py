"""BRC-42, BRC-77 and BRC-100 against the Python SDK's derivation, and against hostile input."""

import pytest
from bsv import PrivateKey as Judge
from hypothesis import given
from hypothesis import strategies as st

from memepool_chain.address import AddressError, address_of
from memepool_chain.brc42 import ANYONE, derive_private_key, derive_public_key
from memepool_chain.brc77 import SIZE_MAX, sign_brc77, verify_brc77
from memepool_chain.brc100 import Purpose, sign_brc100, verify_brc100
from memepool_chain.hashing import sha256
from memepool_chain.keys import PrivateKey, uncompressed, verify_der
from memepool_chain.message import SignatureError, decode_signature
from memepool_chain.network import MAIN, REGTEST

KEY, OTHER = PrivateKey.from_bytes(sha256(b"a")), PrivateKey.from_bytes(sha256(b"b"))
ADDRESS = address_of(KEY.public_key, MAIN)
PURPOSE = Purpose(2, "memepool login", "nonce")
ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
secrets = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))


def high_s(der: bytes) -> bytes:
    """The other valid signature of the same key and text."""
    r_end = 4 + der[3]
    s = ORDER - int.from_bytes(der[r_end + 2 :], "big")
    s_bytes = s.to_bytes((s.bit_length() + 8) // 8, "big")
    body = der[2:r_end] + bytes([2, len(s_bytes)]) + s_bytes
    return bytes([0x30, len(body)]) + body


def refusal(message: str, signed: bytes, address: str = ADDRESS) -> str:
    with pytest.raises(SignatureError) as caught:
        verify_brc77(message, signed, address, MAIN)
    return caught.value.code


@given(secrets, secrets, st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_children_are_those_of_the_other_implementation(
    one: bytes, two: bytes, invoice: str
) -> None:
    ours, theirs = PrivateKey.from_bytes(one), PrivateKey.from_bytes(two)
    child = derive_private_key(ours, theirs.public_key, invoice)
    judged = Judge(one).derive_child(Judge(two).public_key(), invoice)
    assert child.to_bytes() == judged.serialize()
    assert derive_public_key(ours.public_key, theirs, invoice) == child.public_key


def test_for_anyone_the_secret_is_the_identity_key_itself() -> None:
    assert ANYONE.shared_secret(KEY.public_key) == KEY.public_key
    assert KEY.shared_secret(ANYONE.public_key) == KEY.public_key


def test_both_address_forms_are_the_same_signer() -> None:
    signed = sign_brc77("text", KEY)
    assert len(signed) <= SIZE_MAX
    for form in (KEY.public_key, uncompressed(KEY.public_key)):
        address = address_of(form, MAIN)
        assert verify_brc77("text", signed, address, MAIN).address == ADDRESS
        signature = sign_brc100("text", PURPOSE, KEY)
        signer = verify_brc100("text", signature, PURPOSE, form, address, MAIN)
        assert (signer.public_key, signer.address) == (KEY.public_key, ADDRESS)


def test_a_signature_for_another_purpose_text_or_key_is_none() -> None:
    signature = sign_brc100("text", PURPOSE, KEY)
    others = (
        ("other", PURPOSE, KEY),
        ("text", Purpose(2, "memepool login", "other"), KEY),
        ("text", Purpose(2, "memepool pay", "nonce"), KEY),
        ("text", Purpose(1, "memepool login", "nonce"), KEY),
        ("text", PURPOSE, OTHER),
    )
    for message, purpose, key in others:
        address = address_of(key.public_key, MAIN)
        with pytest.raises(SignatureError) as caught:
            verify_brc100(message, signature, purpose, key.public_key, address, MAIN)
        assert caught.value.code == "signature_mismatch"
    # The identity key's own signature is not the child's.
    with pytest.raises(SignatureError, match="not by this key"):
        own = KEY.sign_digest(sha256(b"text"))
        verify_brc100("text", own, PURPOSE, KEY.public_key, ADDRESS, MAIN)


def test_an_address_of_somebody_else_or_another_network_is_refused() -> None:
    signed = sign_brc77("text", KEY)
    assert refusal("text", signed, address_of(OTHER.public_key, MAIN)) == "signature_mismatch"
    with pytest.raises(AddressError, match="not a P2PKH address of the main network"):
        verify_brc77("text", signed, address_of(KEY.public_key, REGTEST), MAIN)


def test_der_is_strict_and_high_s_is_the_same_signature() -> None:
    digest, der = sha256(b"text"), KEY.sign_digest(sha256(b"text"))
    assert verify_der(digest, der, KEY.public_key)
    assert verify_der(digest, high_s(der), KEY.public_key)
    r_size = der[3]
    padded = bytes([0x30, der[1] + 1, 2, r_size + 1, 0]) + der[4:]
    long_form = bytes([0x30, 0x81]) + der[1:]
    for bad in (b"", b"\x30", der[:-1], der + b"\0", padded, long_form, b"\x31" + der[1:]):
        with pytest.raises(ValueError, match="DER"):
            verify_der(digest, bad, KEY.public_key)


def test_malformed_messages_have_one_code() -> None:
    good = sign_brc77("text", KEY)
    assert refusal("other text", good) == "signature_mismatch"
    for bad in (
        b"",
        good[:3],
        b"\x42\x42\x33\x02" + good[4:],
        good[:4] + b"\x05" + good[5:],
        good[:4] + b"\x02" + b"\xff" * 32 + good[37:],
        good[:37] + b"\x02" + good[38:],
        good[:37],
        good[:50],
        good[:70],
        good + b"\0",
    ):
        assert refusal("text", bad) == "malformed_signature"


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(junk: bytes) -> None:
    refusal("text", junk)
    refusal("text", b"\x42\x42\x33\x01" + KEY.public_key + b"\0" + junk)


def test_base64_has_one_spelling() -> None:
    assert decode_signature("AAAA", size_max=3) == bytes(3)
    for bad in ("AAA", "AA==\n", " AAA", "AB==", "AAAA AAA", "A-_A", "AAAAA", "\u0410AAA"):
        with pytest.raises(SignatureError) as caught:
            decode_signature(bad, size_max=100)
        assert caught.value.code == "malformed_signature"
    with pytest.raises(SignatureError, match="at most 3 bytes"):
        decode_signature("AAAAAAAA", size_max=3)
