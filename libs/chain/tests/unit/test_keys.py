"""Private keys: ranges, DER, low S, and nothing secret in a repr."""

import coincurve
import pytest
from bsv import PrivateKey as Judge
from hypothesis import given
from hypothesis import strategies as st

from memepool_chain.hashing import sha256
from memepool_chain.keys import PrivateKey, recover_public_key, uncompressed

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
SECRETS = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32))


@given(SECRETS, st.binary(min_size=32, max_size=32))
def test_a_signature_is_low_s_der_that_the_judge_accepts(secret: bytes, digest: bytes) -> None:
    key = PrivateKey.from_bytes(secret)
    judge = Judge(secret)
    der = key.sign_digest(digest)
    assert key.public_key == judge.public_key().serialize()
    assert judge.public_key().verify(der, digest, hasher=None)
    s_size_at = 4 + der[3] + 1
    assert int.from_bytes(der[s_size_at + 1 :]) <= ORDER // 2
    assert len(der) <= 71


@given(SECRETS, st.binary(min_size=32, max_size=32))
def test_the_public_key_can_be_recovered(secret: bytes, digest: bytes) -> None:
    key = PrivateKey.from_bytes(secret)
    compact = key.sign_recoverable(digest)
    assert len(compact) == 65
    assert recover_public_key(digest, compact) == key.public_key


@pytest.mark.parametrize("secret", [b"", bytes(31), bytes(33), bytes(32), ORDER.to_bytes(32)])
def test_what_is_no_key_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (part of it is libsecp256k1's wording)
        PrivateKey.from_bytes(secret)


def test_a_repr_shows_the_public_half_only() -> None:
    key = PrivateKey.from_bytes(sha256(b"secret"))
    assert key.to_bytes().hex() not in repr(key)
    assert key.public_key.hex() in repr(key)


def test_generated_keys_differ() -> None:
    assert PrivateKey.generate().to_bytes() != PrivateKey.generate().to_bytes()


def test_uncompressed_form() -> None:
    key = PrivateKey.from_bytes(sha256(b"secret"))
    assert uncompressed(key.public_key) == coincurve.PublicKey(key.public_key).format(False)
    with pytest.raises(ValueError):  # noqa: PT011 (libsecp256k1's wording)
        uncompressed(b"\x02" + bytes(32))
