"""`python -m memepool_payments verify`: whether the ledger still is what was sealed."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from memepool_common.db import Database
from memepool_payments.settings import Settings
from memepool_payments.use_cases import sealing
from memepool_payments.use_cases.sealing import Verdict


def main(arguments: Sequence[str]) -> None:
    """Print the verdict; exit 1 if the chain is broken."""
    parser = argparse.ArgumentParser(prog="python -m memepool_payments verify")
    parser.add_argument(
        "--contains", type=bytes.fromhex, metavar="HASH", help="a block noted elsewhere"
    )
    options = parser.parse_args(arguments)
    verdict = asyncio.run(_verify(Settings(), options.contains))
    head = "none" if verdict.head is None else verdict.head.hash.hex()
    sys.stdout.write(f"{verdict.blocks} blocks, {verdict.journals} journals, head {head}\n")
    if verdict.problem is not None:
        sys.stderr.write(f"BROKEN: {verdict.problem}\n")
        sys.exit(1)


async def _verify(settings: Settings, contains: bytes | None) -> Verdict:
    database = Database.connect(settings.database, application_name="payments-verify")
    try:
        return await sealing.verify(database, contains=contains)
    finally:
        await database.close()
