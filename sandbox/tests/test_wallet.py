"""A player's wallet against the official SDK: what it signs, others accept."""

import base64
import io
import json

import pytest
from bsv import verify_signed_text

from memepool_chain.message import verify_bsm
from memepool_chain.network import MAIN, REGTEST
from memepool_chain.tx import TxOut
from memepool_sandbox.chain.node import Node
from memepool_sandbox.wallet import Wallet
from memepool_sandbox.wallet_command import EXIT_NO_CHALLENGE, wallet


def test_the_seed_is_the_wallet() -> None:
    assert Wallet(b"a").address == Wallet(b"a").address
    assert Wallet(b"a").address != Wallet(b"b").address
    assert Wallet(b"a", MAIN).address.startswith("1")


def test_messages_verify_here_and_with_the_sdk() -> None:
    message = "memepool.example wants you to sign in\n\nNonce: abc"
    signature = Wallet(b"a").sign(message)
    assert len(base64.b64decode(signature)) == 65
    address = Wallet(b"a").address
    assert verify_bsm(message, signature, address, REGTEST).address == address
    assert verify_signed_text(message, Wallet(b"a", MAIN).address, signature)


def test_payments_are_accepted_by_the_node(node: Node, payer: Wallet) -> None:
    coins = [payer.coin(node.fund(payer.address, 10_000), 0, 10_000) for _ in range(3)]
    tx = payer.pay(coins, [TxOut(25_000, Wallet(b"b").script)])
    assert node.submit(tx.serialize()) == tx.txid
    assert 0 < node.view.fee_sats(tx) < 100


def test_the_command_tells_the_address_and_answers_challenges() -> None:
    address, answer = io.StringIO(), io.StringIO()
    assert wallet("alice", answers=False, challenge=io.StringIO(), out=address) == 0
    challenge = io.StringIO(json.dumps({"nonce": "n1", "message": "two\nlines"}))
    assert wallet("alice", answers=True, challenge=challenge, out=answer) == 0
    proof = json.loads(answer.getvalue())
    assert (proof["nonce"], proof["walletAddress"]) == ("n1", address.getvalue().strip())
    verify_bsm("two\nlines", proof["signature"], proof["walletAddress"], REGTEST)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"nonce": "n1"}', "null"])
def test_the_command_says_when_there_is_no_challenge(text: str) -> None:
    out = io.StringIO()
    asked = io.StringIO(text)
    assert wallet("alice", answers=True, challenge=asked, out=out) == EXIT_NO_CHALLENGE
    assert out.getvalue() == ""
