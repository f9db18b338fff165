"""A stopped round, taken up again by an admin: judged anew, or given back."""

from sqlalchemy import text

from memepool_payments.domain.journal import Movement, NewJournal
from memepool_payments.store import ledger
from memepool_payments.use_cases import distribution
from services.payments.tests.ballot import ROUND
from services.payments.tests.site import Site, refused
from services.payments.tests.test_distribution import DISTRIBUTED, STOPPED, Game, close

RETRY, REFUND = (f"/payments/distributions/{ROUND}/{what}" for what in ("retry", "refund"))
REFUNDED = "memepool.payments.stake.refunded.v1"


async def _stopped(site: Site) -> Game:
    """A round that takes a carry which is not there."""
    game = await Game(site.books).play()
    sources = [{"roundId": "799999", "amount": 15}]
    tally = game.tally(carryIn=15, carrySources=sources, pot=215, carryOut=30)
    await close(game.books, tally)
    await distribution.work(game.books.database)
    assert await game.state() == "stopped"
    return game


async def test_retry_pays_once_the_cause_is_gone_and_stops_again_before(site: Site) -> None:
    game, admin = await _stopped(site), await site.user(role="admin")
    answer = await site.call(admin, "POST", RETRY)
    assert (answer.status_code, answer.json()) == (202, {"roundId": ROUND, "state": "closed"})
    await distribution.work(game.books.database)
    assert await game.state() == "stopped"
    assert len(await game.books.announced(STOPPED)) == 2

    async with game.books.database.transaction() as session:  # the missing carry arrives
        await session.execute(text("insert into carry (round_id, amount) values ('799999', 15)"))
    (funder,) = await game.books.funded([15])
    async with game.books.database.transaction() as session:
        account = await ledger.accounts_of(session, [funder])
        carry = await ledger.platform_account(session, ledger.CARRY)
        there = [Movement(account[funder], carry, 15)]
        await ledger.post(session, [NewJournal("test", "carry", b"", "fee", there)])
    assert (await site.call(admin, "POST", RETRY)).status_code == 202
    await distribution.work(game.books.database)
    assert await game.state() == "paid"
    assert len(await game.books.announced(DISTRIBUTED)) == 1


async def test_refund_gives_every_stake_back_once(site: Site) -> None:
    game, admin = await _stopped(site), await site.user(role="admin")
    key = {"Idempotency-Key": "once"}
    first = await site.call(admin, "POST", REFUND, headers=key)
    assert (first.status_code, first.json()["state"]) == (202, "refunding")
    again = await site.call(admin, "POST", REFUND, headers=key)
    assert (again.status_code, again.text) == (202, first.text)
    refused(await site.call(admin, "POST", REFUND), 409, "round_not_stopped")
    refused(await site.call(admin, "POST", RETRY), 409, "round_not_stopped")
    for _ in range(2):
        await distribution.work(game.books.database)
    assert await game.state() == "refunded"
    assert await game.available() == [0, 100, 150]
    (told,) = await game.books.announced(REFUNDED)
    assert (sorted(told["amount"]), told["reason"]) == ([100, 100], "round_refunded")
    assert await game.books.announced(DISTRIBUTED) == []
    await game.ballot.reject(game.votes[0])  # what is back is not given back again
    assert await game.available() == [0, 100, 150]


async def test_a_refund_goes_on_after_a_crash_between_its_parts(site: Site) -> None:
    game, admin = await _stopped(site), await site.user(role="admin")
    await site.call(admin, "POST", REFUND)
    assert await distribution.step(game.books.database, ROUND)  # and the process dies
    assert await game.state() == "refunding"
    await game.books.check()
    await distribution.work(game.books.database)
    assert await game.state() == "refunded"


async def test_only_admins_and_only_rounds_that_are_stopped(site: Site) -> None:
    alice, admin = await site.user(), await site.user(role="admin")
    for path in (RETRY, REFUND):
        refused(await site.call(alice, "POST", path), 403, "role_required")
        refused(await site.call(None, "POST", path), 401, "token_required")
        refused(await site.call(admin, "POST", path), 404, "round_unknown")
        bad = path.replace(ROUND, "x")
        refused(await site.call(admin, "POST", bad), 422, "invalid_request")
    game = await Game(site.books).play()
    refused(await site.call(admin, "POST", REFUND), 409, "round_not_stopped")
    assert await game.state() == "open"
    feed = (await site.get(admin, "/payments/audit")).json()["items"]
    assert not [line for line in feed if line["action"].startswith("payments.distribution")]
