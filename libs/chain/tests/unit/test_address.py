"""Base58Check, P2PKH addresses, script hashes, networks."""

import pytest
from bsv import PublicKey
from hypothesis import given
from hypothesis import strategies as st

from memepool_chain.address import (
    AddressError,
    address_of,
    decode_p2pkh,
    encode_p2pkh,
    p2pkh_script,
    script_hash,
)
from memepool_chain.base58 import encode_check
from memepool_chain.hashing import internal_bytes, sha256d
from memepool_chain.network import MAIN, REGTEST, TEST, Network, network_named

GENERATOR = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
GENERATOR_HASH = bytes.fromhex("751e76e8199196d454941c45d1b3a323f1433bd6")


@pytest.mark.parametrize(
    ("network", "address"),
    [
        (MAIN, "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH"),
        (TEST, "mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r"),
        (REGTEST, "mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r"),
    ],
)
def test_the_generators_address_is_the_published_one(network: Network, address: str) -> None:
    assert encode_p2pkh(GENERATOR_HASH, network) == address
    assert address_of(GENERATOR, network) == address
    assert decode_p2pkh(address, network) == GENERATOR_HASH


def test_the_judge_makes_the_same_address() -> None:
    assert address_of(GENERATOR, MAIN) == PublicKey(GENERATOR).address()


@given(st.binary(min_size=20, max_size=20))
def test_an_address_reads_back_as_its_hash(pubkey_hash: bytes) -> None:
    assert decode_p2pkh(encode_p2pkh(pubkey_hash, MAIN), MAIN) == pubkey_hash


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("", "malformed_address"),
        ("1", "malformed_address"),
        ("1" * 35, "malformed_address"),
        ("1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH ", "malformed_address"),
        (" 1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH", "malformed_address"),
        ("1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMh", "malformed_address"),  # checksum
        ("0BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH", "malformed_address"),  # alphabet
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "malformed_address"),
        ("z" * 1_000_000, "malformed_address"),
        (encode_check(b"\x00" + bytes(19)), "malformed_address"),
        (encode_check(b"\x00" + bytes(21)), "malformed_address"),
        ("mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r", "wrong_network"),
        ("3P14159f73E4gFr7JterCCQh9QjiTjiZrG", "wrong_network"),  # P2SH
        ("１BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH", "malformed_address"),  # noqa: RUF001 (that digit)
    ],
)
def test_what_is_no_address_here_is_refused_with_its_code(address: str, code: str) -> None:
    with pytest.raises(AddressError) as caught:
        decode_p2pkh(address, MAIN)
    assert caught.value.code == code


@given(st.text(max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(AddressError):
        decode_p2pkh(text, MAIN)


def test_scripts_and_their_names() -> None:
    script = p2pkh_script(GENERATOR_HASH)
    assert script.hex() == "76a914751e76e8199196d454941c45d1b3a323f1433bd688ac"
    # ElectrumX's documentation: the script of the first block's address
    genesis = p2pkh_script(decode_p2pkh("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", MAIN))
    assert (
        script_hash(genesis) == "8b01df4e368ea28f8dc0423bcf7a4923e3a12d307c875e47a0cfbf90b5c39161"
    )


@pytest.mark.parametrize("size", [0, 19, 21, 33])
def test_a_public_key_hash_of_another_length_is_a_mistake(size: int) -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        p2pkh_script(bytes(size))
    with pytest.raises(ValueError, match="20 bytes"):
        encode_p2pkh(bytes(size), MAIN)


def test_networks_by_name() -> None:
    assert [network_named(name) for name in ("main", "test", "regtest")] == [MAIN, TEST, REGTEST]
    with pytest.raises(ValueError, match="main, test, regtest"):
        network_named("btc")


def test_hashes_as_text() -> None:
    assert (
        sha256d(b"hello").hex()
        == "9595c9df90075148eb06860365df33584b75bff782a510c6cd4883a419833d50"
    )
    assert internal_bytes("00" * 31 + "01") == b"\x01" + bytes(31)
    for wrong in ("", "0" * 63, "G" * 64, "A" * 64, "0" * 64 + "\n"):
        with pytest.raises(ValueError, match="64 lowercase"):
            internal_bytes(wrong)
