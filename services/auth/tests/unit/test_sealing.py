"""Secrets at rest."""

import pytest

from memepool_auth.adapters.sealing import SealError, seal, unseal

KEY, OTHER_KEY = bytes(range(32)), bytes(32)


def test_a_sealed_key_opens_with_its_key_and_id_only() -> None:
    sealed = seal(b"secret", KEY, "kid-1")
    assert unseal(sealed, KEY, "kid-1") == b"secret"
    assert b"secret" not in sealed
    assert sealed != seal(b"secret", KEY, "kid-1")
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for box, key, kid in (
        (sealed, OTHER_KEY, "kid-1"),
        (sealed, KEY, "x"),
        (changed, KEY, "kid-1"),
    ):
        with pytest.raises(SealError):
            unseal(box, key, kid)
