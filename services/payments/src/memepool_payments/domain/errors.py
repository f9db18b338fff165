"""What payments refuses.

PaymentsError
├── NotKnownYetError           not_known_yet         404  a wallet or user that may still arrive
├── TransactionNotFoundError   transaction_unknown   404  none of the caller's
├── DepositNotFoundError       deposit_unknown       404  none of the caller's
├── MemberNotFoundError        user_unknown          404  an admin asked for nobody
├── RoundNotFoundError         round_unknown         404  an admin asked for no round of ours
├── NotStoppedError            round_not_stopped     409  only stopped rounds are repaired
├── InvalidRecipientError      invalid_recipient     422  neither a user id nor an address
├── SelfTransferError          self_transfer         422
├── IdempotencyKeyReusedError  idempotency_key_reused 422 the key belongs to another request
├── TooFastError               transfer_limit        429  too much or too often within an hour
├── SignatureRequiredError     signature_required    403  with a challenge to sign
├── SignatureRefusedError      (the signature's)     403  it is not by this wallet, or none at all
├── WithdrawalsStoppedError    withdrawals_stopped   503  the ledger is in doubt
├── TooManyChallengesError     too_many_challenges   429  open and unsigned
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


class RoundNotFoundError(PaymentsError):
    """Payments knows no such round."""

    code = "round_unknown"


class NotStoppedError(PaymentsError):
    """The round has not been stopped, or was taken up again."""

    code = "round_not_stopped"


class InvalidRecipientError(PaymentsError):
    """Neither a user id nor a wallet address of this network."""

    code = "invalid_recipient"


class SelfTransferError(PaymentsError):
    """Sender and recipient are the same."""

    code = "self_transfer"


class IdempotencyKeyReusedError(PaymentsError):
    """The key was used for another request."""

    code = "idempotency_key_reused"


class TooFastError(PaymentsError):
    """The user's transfers of this hour have reached a limit; nothing is stored under the key."""

    code = "transfer_limit"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("You have sent as much as is allowed within an hour; try again later.")
        self.headers = {"Retry-After": str(retry_after_s)}


class SignatureRequiredError(PaymentsError):
    """The wallet must sign what it asks for; nothing was stored."""

    code = "signature_required"

    def __init__(self, challenge: Mapping[str, object]) -> None:
        super().__init__(
            "Sign the challenge's message with your wallet, and repeat the call with its nonce"
            " and the signature."
        )
        self.extra = {"challenge": challenge}


class SignatureRefusedError(PaymentsError):
    """The signature is not the wallet's over the challenge; the challenge is used up."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{detail[:1].upper()}{detail[1:]}; ask for another challenge.")
        self.code = code


class WithdrawalsStoppedError(PaymentsError):
    """An invariant of the ledger was broken; nothing leaves until a person has looked."""

    code = "withdrawals_stopped"
    headers: Mapping[str, str] = {"Retry-After": "600"}


class TooManyChallengesError(PaymentsError):
    """Sign one of those that are open, or wait until they expire."""

    code = "too_many_challenges"
    headers: Mapping[str, str] = {"Retry-After": "60"}


class RefusedError(PaymentsError):
    """The ledger refused; the same key gets the same answer for ever."""

    _DETAILS: Mapping[str, str] = {
        "insufficient_funds": "The available balance does not cover the amount.",
        "account_frozen": "The account is frozen: nothing new can leave it.",
    }

    def __init__(self, outcome: str) -> None:
        super().__init__(self._DETAILS.get(outcome, f"The ledger refused: {outcome}."))
        self.code = outcome
