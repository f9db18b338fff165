"""The three BSV networks: version bytes, proof-of-work rules, first block."""

from dataclasses import dataclass
from typing import Final

_GENESIS_MERKLE_ROOT: Final = bytes.fromhex(
    "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a"
)


def _genesis(time: int, bits: int, nonce: int) -> bytes:
    return (
        (1).to_bytes(4, "little")
        + bytes(32)
        + _GENESIS_MERKLE_ROOT
        + time.to_bytes(4, "little")
        + bits.to_bytes(4, "little")
        + nonce.to_bytes(4, "little")
    )


@dataclass(frozen=True, slots=True)
class Network:
    """What differs between the networks.

    `retargets`: required bits follow the 144-block algorithm; otherwise they stay at the limit.
    `min_difficulty_gap_s`: a block later than its parent by more than this may use the limit.
    """

    name: str
    address_version: int
    xpub_version: bytes
    xprv_version: bytes
    pow_limit_bits: int
    genesis_header: bytes
    retargets: bool
    min_difficulty_gap_s: int | None = None


MAIN: Final = Network(
    name="main",
    address_version=0x00,
    xpub_version=bytes.fromhex("0488b21e"),
    xprv_version=bytes.fromhex("0488ade4"),
    pow_limit_bits=0x1D00FFFF,
    genesis_header=_genesis(1_231_006_505, 0x1D00FFFF, 2_083_236_893),
    retargets=True,
)
TEST: Final = Network(
    name="test",
    address_version=0x6F,
    xpub_version=bytes.fromhex("043587cf"),
    xprv_version=bytes.fromhex("04358394"),
    pow_limit_bits=0x1D00FFFF,
    genesis_header=_genesis(1_296_688_602, 0x1D00FFFF, 414_098_458),
    retargets=True,
    min_difficulty_gap_s=20 * 60,
)
REGTEST: Final = Network(
    name="regtest",
    address_version=TEST.address_version,
    xpub_version=TEST.xpub_version,
    xprv_version=TEST.xprv_version,
    pow_limit_bits=0x207FFFFF,
    genesis_header=_genesis(1_296_688_602, 0x207FFFFF, 2),
    retargets=False,
)
_BY_NAME: Final = {network.name: network for network in (MAIN, TEST, REGTEST)}


def network_named(name: str) -> Network:
    """Return the network called main, test or regtest; ValueError for another name."""
    network = _BY_NAME.get(name)
    if network is None:
        raise ValueError(f"unknown network {name!r}: expected one of {', '.join(_BY_NAME)}")
    return network
