"""What payments takes and answers, exactly as on the wire. Amounts are satoshis."""

from typing import Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from memepool_common.web.model import (
    MoneyModel,
    PositiveSats,
    RequestModel,
    Sats,
    Timestamp,
    WireModel,
)
from memepool_payments.use_cases.signing import Proof

MEMO_LENGTH_MAX = 200
RECIPIENT_LENGTH_MAX = 64
RAW_TX_HEX_MAX = 60_000

TransactionType = Literal[
    "deposit",
    "deposit_reversal",
    "stake",
    "stake_refund",
    "reward",
    "transfer",
    "transfer_reversal",
    "withdrawal",
    "withdrawal_refund",
    "fee",
    "network_fee",
]


class Balance(WireModel):
    """`held`: open stakes and withdrawals. `pending`: deposits that wait for confirmation."""

    available: Sats
    withdrawable: Sats
    held: Sats
    pending: Sats


class SignableModel(MoneyModel):
    """The body of a call that may need the caller's wallet. The four fields are not part of what is
    asked for: a repetition may have others."""

    nonce: str | None = Field(
        default=None, max_length=128, description="Of the challenge that is signed"
    )
    signature: str | None = Field(
        default=None, max_length=1_024, description="Of the challenge's message, in base64"
    )
    scheme: Literal["bsm", "brc100"] = Field(
        default="bsm",
        description="bsm: Bitcoin Signed Message; brc100: createSignature with the challenge's"
        " parameters, which needs publicKey",
    )
    public_key: str | None = Field(
        default=None,
        pattern="^(0[23][0-9a-fA-F]{64}|04[0-9a-fA-F]{128})$",
        description="A BRC-100 wallet's identity key, in hex",
    )

    @model_validator(mode="after")
    def _key_of_the_scheme(self) -> Self:
        if self.scheme == "brc100" and self.public_key is None:
            raise ValueError("the scheme brc100 needs publicKey: the wallet's identity key in hex")
        return self

    @property
    def proof(self) -> Proof | None:
        """The signed challenge, if one is handed in."""
        if self.nonce is None or self.signature is None:
            return None
        return Proof(self.nonce, self.signature, self.scheme, self.public_key)


class TransferRequest(SignableModel):
    """`recipient` is a user id or a wallet address."""

    recipient: str = Field(min_length=1, max_length=RECIPIENT_LENGTH_MAX)
    amount: PositiveSats
    memo: str | None = Field(default=None, max_length=MEMO_LENGTH_MAX)


class Transaction(WireModel):
    """A movement of the caller's money. `sender` and `recipient` are user ids, `round:<id>` for
    stakes and rewards, null for the chain. The list of types may grow."""

    id: str
    type: str
    amount: PositiveSats
    sender: str | None
    recipient: str | None
    timestamp: Timestamp
    memo: str | None
    txid: str | None


class DepositAddress(WireModel):
    """The caller's own."""

    address: str


class DepositRequest(RequestModel):
    """A transaction that pays the caller's deposit address, raw or as BEEF, in hex."""

    raw_tx: str | None = Field(default=None, max_length=RAW_TX_HEX_MAX, pattern="^[0-9a-fA-F]+$")
    beef: str | None = Field(default=None, max_length=RAW_TX_HEX_MAX, pattern="^[0-9a-fA-F]+$")


class Deposit(WireModel):
    """An output that pays the caller. `state` is pending, credited, or lost: its transaction has
    vanished before a block had it, and counts again if it comes back. The list may grow."""

    id: str
    txid: str
    vout: int
    address: str
    amount: PositiveSats
    state: str
    confirmations: int
    required_confirmations: int
    block_height: int | None
    block_hash: str | None
    created_at: Timestamp
    credited_at: Timestamp | None


class WithdrawalRequest(SignableModel):
    """Without `address`, to the caller's own wallet."""

    amount: PositiveSats
    address: str | None = Field(default=None, min_length=26, max_length=35)


class Withdrawal(WireModel):
    """Money on its way to the chain. The list of states may grow."""

    id: UUID
    amount: PositiveSats
    network_fee: Sats
    address: str
    state: str
    txid: str | None
    created_at: Timestamp
    updated_at: Timestamp


class PayoutRequest(SignableModel):
    """Whether rewards leave by the settlement transaction, and where to."""

    automatic: bool = Field(strict=True)
    address: str | None = Field(default=None, min_length=26, max_length=35)


class Payout(WireModel):
    """The caller's choice."""

    automatic: bool
    address: str | None


class Minimums(WireModel):
    """The smallest amounts that are taken."""

    transfer: PositiveSats
    deposit: PositiveSats
    withdrawal: PositiveSats


class Fees(WireModel):
    """`platformFeeBasisPoints` of a pot is the most that a round's policy may charge."""

    platform_fee_basis_points: int
    transfer_fee: Sats
    network_fee_sats_per_kb: int
    minimums: Minimums


class FeeReport(WireModel):
    """Fees taken in a period; null bounds are open."""

    from_time: Timestamp | None
    to_time: Timestamp | None
    platform_fees: Sats
    transfer_fees: Sats
    network_fees: Sats


class Owed(WireModel):
    """What users can claim: now, or once a round is over."""

    available: Sats
    held: Sats
    escrow: Sats
    carry: Sats
    total: Sats


class Reserves(WireModel):
    """One snapshot: coins = owed + pendingDeposits + platformEquity, or `balanced` is false."""

    owed: Owed
    pending_deposits: Sats
    platform_fees: Sats
    receivables: Sats
    platform_equity: int
    coins: Sats
    balanced: bool
    block_height: int | None


class AccountFreeze(WireModel):
    """Nothing new leaves a frozen account; what comes in still does."""

    user_id: UUID
    frozen: bool


class DistributionRepair(WireModel):
    """What was started for a stopped round."""

    round_id: str
    state: str


class ArcCallback(RequestModel):
    """ARC's notice of a transaction: a hint, checked before anything is believed."""

    txid: str = Field(pattern="^[0-9a-f]{64}$")
    tx_status: str = Field(max_length=64)
    block_hash: str | None = Field(default=None, max_length=64)
    block_height: int | None = None
    merkle_path: str | None = Field(default=None, max_length=RAW_TX_HEX_MAX)
    extra_info: str | None = Field(default=None, max_length=1_024)
