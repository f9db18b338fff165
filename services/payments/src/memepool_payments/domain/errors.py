"""What payments refuses.

PaymentsError
├── NotKnownYetError           not_known_yet         404  a wallet or user that may still arrive
├── TransactionNotFoundError   transaction_unknown   404  none of the caller's
├── DepositNotFoundError       deposit_unknown       404  none of the caller's
├── MemberNotFoundError        user_unknown          404  an admin asked for nobody
├── InvalidRecipientError      invalid_recipient     422  neither a user id nor an address
├── SelfTransferError          self_transfer         422
├── IdempotencyKeyReusedError  idempotency_key_reused 422 the key belongs to another request
└── RefusedError               (its outcome)         422  the ledger said no; stored under its key
    insufficient_funds, account_frozen
"""

from collections.abc import Mapping


class PaymentsError(Exception):
    """A refusal with a stable code; the message is for people."""

    code = "refused"
    headers: Mapping[str, str] = {}


class NotKnownYetError(PaymentsError):
    """Payments has not heard of it; it may be on its way."""

    code = "not_known_yet"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class TransactionNotFoundError(PaymentsError):
    """The caller has no such transaction."""

    code = "transaction_unknown"


class DepositNotFoundError(PaymentsError):
    """The caller has no such deposit."""

    code = "deposit_unknown"


class MemberNotFoundError(PaymentsError):
    """There is no such user."""

    code = "user_unknown"


class InvalidRecipientError(PaymentsError):
    """Neither a user id nor a wallet address of this network."""

    code = "invalid_recipient"


class SelfTransferError(PaymentsError):
    """Sender and recipient are the same."""

    code = "self_transfer"


class IdempotencyKeyReusedError(PaymentsError):
    """The key was used for another request."""

    code = "idempotency_key_reused"


class RefusedError(PaymentsError):
    """The ledger refused; the same key gets the same answer for ever."""

    _DETAILS: Mapping[str, str] = {
        "insufficient_funds": "The available balance does not cover the amount.",
        "account_frozen": "The account is frozen: nothing new can leave it.",
    }

    def __init__(self, outcome: str) -> None:
        super().__init__(self._DETAILS.get(outcome, f"The ledger refused: {outcome}."))
        self.code = outcome
