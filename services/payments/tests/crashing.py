"""A life of the ledger that is killed at a named point, and lived again from the start.

`python -m services.payments.tests.crashing` reads one JSON object a line, with `database` and
`died_at`, and lives in a process of its own. Every commit makes two points, before it and after it;
at the first one where no earlier life has died, SIGKILL hits the process, without anything being
cleaned up. The answer is the signal and the point. Forking from one process that has imported
everything keeps each life short.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from memepool_chain.address import address_of
from memepool_chain.keys import PrivateKey
from memepool_chain.message import sign_bsm
from memepool_chain.network import REGTEST
from memepool_common.db import Database, Session, Statement
from memepool_common.settings import DatabaseSettings
from memepool_common.tokens import Principal
from memepool_payments.domain.errors import SignatureRequiredError
from memepool_payments.domain.journal import Movement, NewJournal
from memepool_payments.store import ledger
from memepool_payments.store.holds import NewHold
from memepool_payments.use_cases import distribution, holds, sealing, stakes
from memepool_payments.use_cases.members import Acquaintance
from memepool_payments.use_cases.posting import Poster
from memepool_payments.use_cases.signing import Proof, require_signature
from memepool_payments.use_cases.transfers import Desk, Transfer, transfer
from services.payments.tests.ballot import Ballot
from services.payments.tests.books import NO_LIMITS, Books
from services.payments.tests.test_distribution import close, closed

PAST = datetime(2020, 1, 1, tzinfo=UTC)
KEY = PrivateKey.from_bytes(bytes([7]) * 32)
ALICE, BOB, CREATOR, MEME, OTHER = (UUID(int=number) for number in range(1, 6))
HELD, WITHDRAWN, REJECTED, POSTED, EXPIRING = (UUID(int=number) for number in range(11, 16))
OPENING = 10_000
# Alice: 1 and 2 sent, 100 staked on the winner with 90 of it won, 300 of a hold of 400 posted.
EXPECTED = {ALICE: OPENING - 1 - 2 - 100 + 90 - 300, BOB: OPENING + 1 + 2, CREATOR: 0}


class MortalDatabase(Database):
    """Names each commit by who asks for it, and dies at the first point that is new."""

    died_at: Collection[str] = ()
    notes: int = 1
    _passed: Counter[str]

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        name = _caller()
        async with super().transaction() as session:
            yield session
            self._pass(f"{name} before")
        self._pass(f"{name} after")

    @contextlib.asynccontextmanager
    async def statement(self) -> AsyncIterator[Statement]:
        name = _caller()
        self._pass(f"{name} before")
        async with super().statement() as session:
            yield session
        self._pass(f"{name} after")

    def _pass(self, name: str) -> None:
        self._passed[name] += 1
        point = f"{name} {self._passed[name]}"
        if point not in self.died_at:
            os.write(self.notes, point.encode())
            os.kill(os.getpid(), signal.SIGKILL)


def _caller() -> str:
    """Behind contextlib's frame: who names the point."""
    code = sys._getframe(3).f_code
    return f"{Path(code.co_filename).stem}.{code.co_name}"


async def live(database: Database) -> None:
    """Everything that moves money, in its order; done twice it changes nothing more."""
    books = Books(database)
    await _open(database)
    desk = Desk(Acquaintance(database), Poster(database, NO_LIMITS), REGTEST)
    alice = Principal(
        ALICE, UUID(int=99), "viewer", address_of(KEY.public_key, REGTEST), PAST, PAST, PAST
    )
    await transfer(desk, Transfer(alice, str(BOB), 1, None, "small"))
    await _send_signed(database, desk, Transfer(alice, str(BOB), 2, None, "large"))
    ballot = Ballot(books)
    counted, late = (HELD, ALICE, MEME, 100), (REJECTED, BOB, MEME, 50)
    withdrawn = (WITHDRAWN, BOB, OTHER, 70)
    await ballot.place(counted, withdrawn)
    await ballot.withdraw(OTHER)
    await stakes.refund_withdrawn(database)
    await ballot.place(late)
    await ballot.reject(late)
    await close(books, closed(100, 1, [(ALICE, 90, "place:1")], [CREATOR], withdrawn=[str(OTHER)]))
    await distribution.work(database)
    for hold_id, amount, expires_at in ((POSTED, 400, None), (EXPIRING, 500, PAST)):
        async with database.transaction() as session:
            wanted = NewHold(hold_id, ALICE, "withdrawal", amount, expires_at)
            assert (await holds.open_hold(session, wanted)).outcome == "posted"
    async with database.transaction() as session:
        fee = await ledger.platform_account(session, ledger.PLATFORM_FEE)
        await holds.post_hold(session, POSTED, [(fee, 300)])
    await holds.expire_holds(database)
    await sealing.seal(database)


async def _open(database: Database) -> None:
    """Users with money; free coins that back it."""
    users = [ALICE, BOB, CREATOR]
    async with database.transaction() as session:
        accounts = await ledger.open_accounts(session, users)
        assets = await ledger.platform_account(session, ledger.CHAIN_ASSETS)
        given = [
            NewJournal(
                "test", f"{user}", b"", "deposit", [Movement(assets, accounts[user], OPENING)]
            )
            for user in (ALICE, BOB)
        ]
        await ledger.post(session, given)
        await session.exec_driver_sql(
            "insert into coin (txid, vout, amount, key_index, state) values ('x', 0, %s, 0, 'free')"
            " on conflict do nothing",
            (2 * OPENING,),
        )


async def _send_signed(database: Database, desk: Desk, wanted: Transfer) -> None:
    """As a client does: ask, sign, ask again; and all of it again if anything fails."""
    proof = None
    for _ in range(2):
        try:
            await require_signature(database, desk, wanted, proof)
            break
        except SignatureRequiredError as required:
            challenge: Any = required.extra["challenge"]
            proof = Proof(challenge["nonce"], sign_bsm(challenge["message"], KEY), "bsm", None)
    await transfer(desk, wanted)


async def _run(settings: dict[str, Any], died_at: Collection[str], notes: int) -> None:
    database = MortalDatabase.connect(DatabaseSettings.model_validate(settings))
    database.died_at, database.notes, database._passed = died_at, notes, Counter()
    await live(database)
    await database.close()


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                asyncio.run(_run(asked["database"], set(asked["died_at"]), write))
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        with os.fdopen(read) as notes:
            point = notes.read()
        _, status = os.waitpid(pid, 0)
        answer = {"status": os.waitstatus_to_exitcode(status), "point": point}
        os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
