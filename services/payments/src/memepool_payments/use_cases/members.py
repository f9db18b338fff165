"""Users as payments meets them: by a token before auth's event, or by the event."""

from collections import OrderedDict
from uuid import UUID

from memepool_common.db import Database
from memepool_common.tokens import Principal
from memepool_payments.store import ledger, members
from memepool_payments.store.members import Recipient

MET_MAX = 50_000


class Acquaintance:
    """Knows the account of every user met, within bounds; an account never changes.

    The subject of a valid token is provisioned the first time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._met: OrderedDict[UUID, int] = OrderedDict()

    async def meet(self, principal: Principal) -> int:
        """The caller's account, made if there is none; auth's own event is always newer."""
        known = self._met.get(principal.user_id)
        if known is not None:
            return known
        async with self._database.transaction() as session:
            await members.remember(
                session,
                user_id=principal.user_id,
                wallet_address=principal.wallet_address,
                suspended=False,
                version=0,
                created_at=principal.created_at,
            )
            accounts = await ledger.accounts_of(session, [principal.user_id])
        return self._remember(Recipient(principal.user_id, accounts[principal.user_id]))

    async def find(self, user_id: UUID | None, wallet_address: str | None) -> Recipient | None:
        """A user with an account, by id or by wallet address."""
        known = None if user_id is None else self._met.get(user_id)
        if user_id is not None and known is not None:
            return Recipient(user_id, known)
        async with self._database.read() as session:
            found = await members.recipient(session, user_id=user_id, wallet_address=wallet_address)
        if found is not None:
            self._remember(found)
        return found

    def _remember(self, found: Recipient) -> int:
        self._met[found.user_id] = found.account_id
        if len(self._met) > MET_MAX:
            self._met.popitem(last=False)
        return found.account_id
