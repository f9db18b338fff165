"""Headers: real ones, compact targets as nodes read them, work, hostile bytes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memepool_chain.header import (
    Header,
    HeaderError,
    bits_of,
    meets_target,
    parse_header,
    target_of,
    work_of,
)
from memepool_chain.network import MAIN, REGTEST, TEST

BLOCK_100_000 = Header(
    version=1,
    prev_hash="000000000002d01c1fccc21636b607dfd930d31d01c3a62104612a1719011250",
    merkle_root="f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766",
    time=1_293_623_863,
    bits=0x1B04864C,
    nonce=274_148_111,
)


def test_block_100_000() -> None:
    expected = "000000000003ba27aa200b1cecaad478d2b00432346c3f1f3986da1afd33e506"
    assert BLOCK_100_000.hash == expected
    assert parse_header(BLOCK_100_000.serialize()) == BLOCK_100_000
    assert meets_target(BLOCK_100_000)
    assert not meets_target(replace(BLOCK_100_000, nonce=0))


def test_the_first_blocks() -> None:
    hashes = [parse_header(network.genesis_header).hash for network in (MAIN, TEST, REGTEST)]
    assert hashes == [
        "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
        "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
        "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
    ]
    assert all(meets_target(parse_header(each.genesis_header)) for each in (MAIN, TEST, REGTEST))


@given(st.binary(min_size=80, max_size=80))
def test_any_eighty_bytes_read_and_write_back(raw: bytes) -> None:
    assert parse_header(raw).serialize() == raw


@given(st.binary(max_size=200).filter(lambda raw: len(raw) != 80))
def test_any_other_length_is_refused(raw: bytes) -> None:
    with pytest.raises(HeaderError) as caught:
        parse_header(raw)
    assert caught.value.code == "malformed_header"


@given(st.binary(min_size=80, max_size=80))
def test_the_question_of_work_has_an_answer_or_the_documented_error(raw: bytes) -> None:
    header = parse_header(raw)
    try:
        answer = meets_target(header)
    except HeaderError as error:
        answer = error.code != "bad_bits"
    assert answer is False  # random bytes prove no work


# What nodes make of compact forms, from the published tests of their 256-bit arithmetic.
@pytest.mark.parametrize(
    ("bits", "target"),
    [
        (0x01123456, 0x12),
        (0x02123456, 0x1234),
        (0x03123456, 0x123456),
        (0x04123456, 0x12345600),
        (0x05009234, 0x92340000),
        (0x20123456, 0x123456 << 232),
        (0x1D00FFFF, 0xFFFF << 208),
        (0x207FFFFF, 0x7FFFFF << 232),
    ],
)
def test_compact_forms(bits: int, target: int) -> None:
    assert target_of(bits) == target


@pytest.mark.parametrize(
    "bits",
    [0, 0x123456, 0x01003456, 0x02000056, 0x04923456, 0x01FEDCBA, 0xFF123456, -1, 1 << 32],
)
def test_zero_negative_and_overflowing_targets_are_refused(bits: int) -> None:
    for question in (target_of, work_of):
        with pytest.raises(HeaderError) as caught:
            question(bits)
        assert caught.value.code == "bad_bits"


@given(st.integers(1, (1 << 256) - 1))
def test_compacting_rounds_down_to_the_leading_bits(target: int) -> None:
    rounded = target_of(bits_of(target))
    assert rounded <= target
    assert target - rounded <= target >> 15
    assert target_of(bits_of(rounded)) == rounded


def test_work() -> None:
    assert work_of(0x1D00FFFF) == 0x1_0001_0001
    assert work_of(0x207FFFFF) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"prev_hash": "00"},
        {"prev_hash": 5},
        {"merkle_root": "G" * 64},
        {"time": -1},
        {"time": 1 << 32},
        {"bits": 1 << 32},
        {"nonce": -1},
        {"version": 1 << 31},
    ],
)
def test_fields_that_fit_no_header_are_refused(change: dict[str, object]) -> None:
    fields = vars(BLOCK_100_000).copy()
    fields.pop("hash", None)
    with pytest.raises(HeaderError) as caught:
        Header.checked(**(fields | change))
    assert caught.value.code == "malformed_header"
