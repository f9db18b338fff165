"""Merkle trees: real blocks, the judge's fold, and proofs that cannot be."""

import pytest
from bsv.merkle_path import MerklePath
from hypothesis import given
from hypothesis import strategies as st

from memepool_chain.merkle import DUPLICATE, MerkleError, branch, merkle_root, root_from_tsc

BLOCK_170 = [
    "b1fea52486ce0c62bb442b530a3f0132b826c74e473d1f2c220bfa78111c5082",
    "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16",
]
BLOCK_170_ROOT = "7dac2c5666815c17a3b36427de37bb9d2e2c5ccec3f8633eb91a4205cb4c10ff"
BLOCK_100_000 = [
    "8c14f0db3df150123e6f3dbbf30f8b955a8249b62ac1d1ff16284aefa3d06d87",
    "fff2525b8931402dd09222c50775608f75787bd2b87e56995a7bdd30f79702c4",
    "6359f0868171b1d194cbee1af2f16ea598ae8fad666d9b012c8ed2b79a236ec4",
    "e9a66845e05d5abc0ad04ec80f774a7e585c6e8db975962d069a522137b80c1d",
]
BLOCK_575_191 = [  # three transactions: the last one is its own pair
    "c1d32f28baa27a376ba977f6a8de6ce0a87041157cef0274b20bfda2b0d8df96",
    "7e0ba1980522125f1f40d19a249ab3ae036001b991776813d25aebe08e8b8a50",
    "5c4d44b9b8d2ec6e0835ac90f206cecb26bf51033f31d4c659975b7534853409",
]
BLOCK_575_191_ROOT = "95a920b1002bed05379a0d2650bb13eb216138f28ee80172f4cf21048528dc60"
BLOCK_100_000_ROOT = "f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766"

TXIDS = st.lists(
    st.binary(min_size=32, max_size=32).map(bytes.hex), min_size=1, max_size=40, unique=True
)


@pytest.mark.parametrize(
    ("txids", "root"),
    [
        (BLOCK_170, BLOCK_170_ROOT),
        (BLOCK_100_000, BLOCK_100_000_ROOT),
        (BLOCK_575_191, BLOCK_575_191_ROOT),
        (BLOCK_170[:1], BLOCK_170[0]),
    ],
)
def test_real_blocks(txids: list[str], root: str) -> None:
    assert merkle_root(txids) == root
    for index, txid in enumerate(txids):
        assert root_from_tsc(txid, index, branch(txids, index)) == root


def judged_root(txid: str, index: int, nodes: list[str]) -> str:
    """Fold the proof in the SDK; it knows no tree of one transaction."""
    levels = []
    offset = index
    for depth, node in enumerate(nodes):
        sibling: dict[str, object] = {"offset": offset ^ 1}
        sibling |= {"duplicate": True} if node == DUPLICATE else {"hash_str": node}
        level = [sibling]
        if depth == 0:
            level.append({"offset": offset, "hash_str": txid, "txid": True})
        levels.append(sorted(level, key=lambda leaf: str(leaf["offset"])))
        offset >>= 1
    root = MerklePath(1, levels).compute_root(txid)
    assert isinstance(root, str)
    return root


@given(TXIDS.filter(lambda txids: len(txids) > 1), st.data())
def test_every_branch_leads_to_the_root_here_and_in_the_judge(
    txids: list[str], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(txids) - 1))
    nodes = branch(txids, index)
    root = merkle_root(txids)
    assert root_from_tsc(txids[index], index, nodes) == root
    assert judged_root(txids[index], index, nodes) == root


def test_a_proof_of_a_real_block_as_whatsonchain_answers_it() -> None:
    nodes = [
        "7e0ba1980522125f1f40d19a249ab3ae036001b991776813d25aebe08e8b8a50",
        "1e3a5a8946e0caf07006f6c4f76773d7e474d4f240a276844f866bd09820adb3",
    ]
    assert root_from_tsc(BLOCK_575_191[0], 0, nodes) == BLOCK_575_191_ROOT
    assert branch(BLOCK_575_191, 0) == nodes
    assert branch(BLOCK_575_191, 2)[0] == DUPLICATE


@given(TXIDS.filter(lambda txids: len(txids) > 1), st.data())
def test_another_place_another_transaction_or_another_node_leads_elsewhere(
    txids: list[str], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(txids) - 1))
    nodes = branch(txids, index)
    root = merkle_root(txids)
    at = data.draw(st.integers(0, len(nodes) - 1))
    tampered = [*nodes[:at], "ab" * 32, *nodes[at + 1 :]]
    assert root_from_tsc("ab" * 32, index, nodes) != root
    assert root_from_tsc(txids[index], index, tampered) != root


@pytest.mark.parametrize(
    ("txid", "index", "nodes", "why"),
    [
        (BLOCK_170[0], -1, [BLOCK_170[1]], "depth"),
        (BLOCK_170[0], 2, [BLOCK_170[1]], "depth"),
        (BLOCK_170[0], 1, [], "depth"),
        (BLOCK_170[0], 0, ["00" * 32] * 33, "32"),
        (BLOCK_170[0], 1 << 400, ["00" * 32], "depth"),
        (BLOCK_170[1], 1, [DUPLICATE], "own pair"),
        (BLOCK_170[1], 1, [BLOCK_170[1]], "left one"),
        (BLOCK_170[1].upper(), 1, [BLOCK_170[0]], "hexadecimal"),
        (BLOCK_170[1], 1, [BLOCK_170[0].upper()], "hexadecimal"),
        (BLOCK_170[1], 1, ["**"], "hexadecimal"),
        (BLOCK_170[1], 1, [""], "hexadecimal"),
        ("", 0, [], "hexadecimal"),
    ],
)
def test_proofs_that_cannot_be(txid: str, index: int, nodes: list[str], why: str) -> None:
    with pytest.raises(MerkleError, match=why):
        root_from_tsc(txid, index, nodes)


@given(st.text(max_size=70), st.integers(), st.lists(st.text(max_size=70), max_size=5))
def test_nothing_raises_anything_else(txid: str, index: int, nodes: list[str]) -> None:
    with pytest.raises(MerkleError):
        root_from_tsc(txid, index, nodes)


def test_trees_that_cannot_be() -> None:
    with pytest.raises(MerkleError, match="at least one"):
        merkle_root([])
    with pytest.raises(MerkleError, match="hexadecimal"):
        merkle_root(["no hash"])
    for index in (-1, 2):
        with pytest.raises(MerkleError, match="outside"):
            branch(BLOCK_170, index)
