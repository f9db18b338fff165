"""Users as payments meets them: by a token before auth's event, or by the event."""

from collections import OrderedDict
from uuid import UUID

from memepool_common.db import Database
from memepool_common.tokens import Principal
from memepool_payments.store import members

MET_MAX = 50_000


class Acquaintance:
    """Provisions the subject of a valid token once; remembers whom it has met, within bounds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._met: OrderedDict[UUID, None] = OrderedDict()

    async def meet(self, principal: Principal) -> None:
        """Make sure that the caller has an account; auth's own event is always newer."""
        if principal.user_id in self._met:
            return
        async with self._database.transaction() as session:
            await members.remember(
                session,
                user_id=principal.user_id,
                wallet_address=principal.wallet_address,
                suspended=False,
                version=0,
                created_at=principal.created_at,
            )
        self._met[principal.user_id] = None
        if len(self._met) > MET_MAX:
            self._met.popitem(last=False)
