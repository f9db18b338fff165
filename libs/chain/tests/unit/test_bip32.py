"""BIP-32: the published vectors 1, 2 and 5, the judge's derivations, hostile extended keys."""

import pytest
from bsv.hd.bip32 import Xprv
from hypothesis import given
from hypothesis import strategies as st

from memepool_chain.address import address_of
from memepool_chain.base58 import decode_check, encode_check
from memepool_chain.bip32 import HARDENED, Bip32Error, ExtendedPrivateKey, ExtendedPublicKey
from memepool_chain.network import MAIN, REGTEST

SEED_1 = bytes(range(16))
SEED_2 = bytes.fromhex(
    "fffcf9f6f3f0edeae7e4e1dedbd8d5d2cfccc9c6c3c0bdbab7b4b1aeaba8a5a2"
    "9f9c999693908d8a8784817e7b7875726f6c696663605d5a5754514e4b484542"
)
VECTORS = [
    (
        SEED_1,
        (),
        "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8",
        "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi",
    ),
    (
        SEED_1,
        (HARDENED,),
        "xpub68Gmy5EdvgibQVfPdqkBBCHxA5htiqg55crXYuXoQRKfDBFA1WEjWgP6LHhwBZeNK1VTsfTFUHCdrfp1bgwQ9xv5ski8PX9rL2dZXvgGDnw",
        "xprv9uHRZZhk6KAJC1avXpDAp4MDc3sQKNxDiPvvkX8Br5ngLNv1TxvUxt4cV1rGL5hj6KCesnDYUhd7oWgT11eZG7XnxHrnYeSvkzY7d2bhkJ7",
    ),
    (
        SEED_1,
        (HARDENED, 1, 2 + HARDENED, 2, 1_000_000_000),
        "xpub6H1LXWLaKsWFhvm6RVpEL9P4KfRZSW7abD2ttkWP3SSQvnyA8FSVqNTEcYFgJS2UaFcxupHiYkro49S8yGasTvXEYBVPamhGW6cFJodrTHy",
        "xprvA41z7zogVVwxVSgdKUHDy1SKmdb533PjDz7J6N6mV6uS3ze1ai8FHa8kmHScGpWmj4WggLyQjgPie1rFSruoUihUZREPSL39UNdE3BBDu76",
    ),
    (
        SEED_2,
        (0,),
        "xpub69H7F5d8KSRgmmdJg2KhpAK8SR3DjMwAdkxj3ZuxV27CprR9LgpeyGmXUbC6wb7ERfvrnKZjXoUmmDznezpbZb7ap6r1D3tgFxHmwMkQTPH",
        "xprv9vHkqa6EV4sPZHYqZznhT2NPtPCjKuDKGY38FBWLvgaDx45zo9WQRUT3dKYnjwih2yJD9mkrocEZXo1ex8G81dwSM1fwqWpWkeS3v86pgKt",
    ),
    (
        SEED_2,
        (0, 2_147_483_647 + HARDENED, 1, 2_147_483_646 + HARDENED, 2),
        "xpub6FnCn6nSzZAw5Tw7cgR9bi15UV96gLZhjDstkXXxvCLsUXBGXPdSnLFbdpq8p9HmGsApME5hQTZ3emM2rnY5agb9rXpVGyy3bdW6EEgAtqt",
        "xprvA2nrNbFZABcdryreWet9Ea4LvTJcGsqrMzxHx98MMrotbir7yrKCEXw7nadnHM8Dq38EGfSh6dqA9QWTyefMLEcBYJUuekgW4BYPJcr9E7j",
    ),
]
XPUB = VECTORS[0][2]


@pytest.mark.parametrize(("seed", "path", "xpub", "xprv"), VECTORS)
def test_published_chains(seed: bytes, path: tuple[int, ...], xpub: str, xprv: str) -> None:
    key = ExtendedPrivateKey.from_seed(seed, MAIN).derive(path)
    assert (str(key), str(key.neuter())) == (xprv, xpub)
    parsed = ExtendedPublicKey.parse(xpub, MAIN)
    assert parsed == key.neuter()
    assert str(parsed) == xpub


@given(st.binary(min_size=64, max_size=64), st.lists(st.integers(0, HARDENED - 1), max_size=4))
def test_both_halves_and_the_judge_derive_the_same_addresses(seed: bytes, path: list[int]) -> None:
    private = ExtendedPrivateKey.from_seed(seed, MAIN)
    public = ExtendedPublicKey.parse(str(private.neuter()), MAIN).derive(path)
    judge = Xprv.from_seed(seed)
    for index in path:
        judge = judge.ckd(index)
    assert public.public_key == private.derive(path).private_key.public_key
    assert address_of(public.public_key, MAIN) == judge.address()


def test_a_test_network_key_is_a_tpub_and_only_that() -> None:
    text = str(ExtendedPrivateKey.from_seed(SEED_1, REGTEST).neuter())
    assert text.startswith("tpub")
    assert ExtendedPublicKey.parse(text, REGTEST).derive((0, 5)).place.depth == 2
    with pytest.raises(Bip32Error, match="main"):
        ExtendedPublicKey.parse(text, MAIN)


def changed(start: int, replacement: bytes) -> str:
    payload = bytearray(decode_check(XPUB, length_max=112))
    payload[start : start + len(replacement)] = replacement
    return encode_check(bytes(payload))


@pytest.mark.parametrize(
    "text",
    [
        "",
        XPUB[:-1],
        XPUB + "1",
        XPUB[:-1] + "9",
        "x" * 1_000_000,
        VECTORS[0][3],  # an xprv where only an xpub may be
        changed(5, b"\x01"),  # depth 0 with a parent (vector 5)
        changed(12, b"\x01"),  # depth 0 with a number (vector 5)
        changed(45, b"\x04"),  # no such form of a key (vector 5)
        changed(45, b"\x00"),  # a private key (vector 5)
        changed(46, bytes(31) + b"\x07"),  # x = 7 is not on the curve (vector 5)
        # vector 5, as published: the key 020000...0007, and a version that is unknown
        "xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6Q5JXayek4PRsn35jii4veMimro1xefsM58PgBMrvdYre8QyULY",
        "DMwo58pR1QLEFihHiXPVykYB6fJmsTeHvyTp7hRThAtCX8CvYzgPcn8XnmdfHPmHJiEDXkTiJTVV9rHEBUem2mwVbbNfvT2MTcAqj3nesx8uBf9",
    ],
)
def test_what_is_no_extended_public_key_is_refused(text: str) -> None:
    with pytest.raises(Bip32Error):
        ExtendedPublicKey.parse(text, MAIN)


@given(st.text(max_size=130))
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(Bip32Error):
        ExtendedPublicKey.parse(text, MAIN)


@pytest.mark.parametrize("index", [-1, HARDENED, HARDENED + 1])
def test_a_public_key_has_no_hardened_children(index: int) -> None:
    with pytest.raises(Bip32Error):
        ExtendedPublicKey.parse(XPUB, MAIN).child(index)


@pytest.mark.parametrize("index", [-1, 1 << 32])
def test_an_index_has_32_bits(index: int) -> None:
    with pytest.raises(Bip32Error):
        ExtendedPrivateKey.from_seed(SEED_1, MAIN).child(index)


def test_the_tree_ends_at_depth_255() -> None:
    deepest = ExtendedPublicKey.parse(XPUB, MAIN).derive((0,) * 255)
    with pytest.raises(Bip32Error, match="255"):
        deepest.child(0)


@pytest.mark.parametrize("size", [0, 15, 65])
def test_seeds_of_other_lengths(size: int) -> None:
    with pytest.raises(Bip32Error):
        ExtendedPrivateKey.from_seed(bytes(size), MAIN)


def test_a_repr_of_an_extended_private_key_keeps_the_secret() -> None:
    key = ExtendedPrivateKey.from_seed(SEED_1, MAIN)
    assert key.private_key.to_bytes().hex() not in repr(key)
