"""`python -m memepool_sandbox.wallet_command NAME [answer]`: a wallet for people with curl."""

import argparse
import json
import os
import sys
from typing import TextIO

from memepool_sandbox.wallet import Wallet

EXIT_NO_CHALLENGE = 2


def wallet(name: str, *, answers: bool, challenge: TextIO, out: TextIO) -> int:
    """Print the address of the wallet called `name`, or its answer to a challenge.

    The answer is the body that POST /auth/session and /auth/verify take. A name is the whole seed,
    so anybody who knows it has the wallet: for the simulated chain only.

    Args:
        name: whose wallet.
        answers: sign what `challenge` holds, the answer of POST /auth/challenge.
        challenge: JSON; not read unless `answers`.
        out: gets one line.
    """
    own = Wallet(name.encode())
    if not answers:
        print(own.address, file=out)
        return os.EX_OK
    try:
        asked = json.load(challenge)
        nonce, message = str(asked["nonce"]), str(asked["message"])
    except (ValueError, KeyError, TypeError):
        print("memepool: that is not the answer of POST /auth/challenge", file=sys.stderr)
        return EXIT_NO_CHALLENGE
    proof = {"walletAddress": own.address, "nonce": nonce, "signature": own.sign(message)}
    print(json.dumps(proof), file=out)
    return os.EX_OK


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m memepool_sandbox.wallet_command",
        description="A wallet for the simulated chain, to use with curl",
    )
    parser.add_argument("name", help="the same name is the same wallet")
    parser.add_argument(
        "action",
        nargs="?",
        choices=("address", "answer"),
        default="address",
        help="print the address; or sign the challenge on standard input",
    )
    arguments = parser.parse_args()
    answers = arguments.action == "answer"
    return wallet(arguments.name, answers=answers, challenge=sys.stdin, out=sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
