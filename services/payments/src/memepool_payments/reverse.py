"""`python -m memepool_payments reverse JOURNAL --reason TEXT`: a transfer back to its sender."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from memepool_common.db import Database
from memepool_payments.domain.journal import Posting
from memepool_payments.settings import Settings
from memepool_payments.use_cases import reversal

REASON_LENGTH_MAX = 200


def main(arguments: Sequence[str]) -> None:
    """Print what was done; exit 1 if it is no transfer."""
    parser = argparse.ArgumentParser(prog="python -m memepool_payments reverse")
    parser.add_argument("journal", type=int, help="of a transaction <journal>-<line>")
    parser.add_argument("--reason", required=True, help="both users will read it")
    options = parser.parse_args(arguments)
    try:
        posting = asyncio.run(
            _reverse(Settings(), options.journal, options.reason[:REASON_LENGTH_MAX])
        )
    except reversal.NotReversibleError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
    done = "was reversed before, by" if posting.replayed else "is reversed by"
    sys.stdout.write(f"{options.journal} {done} journal {posting.journal_id}\n")


async def _reverse(settings: Settings, journal_id: int, reason: str) -> Posting:
    database = Database.connect(settings.database, application_name="payments-reverse")
    try:
        async with database.transaction() as session:
            return await reversal.reverse(session, journal_id, reason)
    finally:
        await database.close()
