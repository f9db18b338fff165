"""What rounds refuses, each with the stable code that clients branch on.

RoundsError
├── Missing                  404
│   ├── RoundNotFound            round_not_found
│   ├── NoRoundYet               no_round_yet
│   ├── MemeNotInRound           meme_not_in_round
│   ├── SubmissionNotFound       submission_not_found
│   ├── VoteNotFound             vote_not_found
│   ├── RewardNotFound           reward_not_found
│   └── NotKnownYet              not_known_yet      (ask again in a moment)
├── Conflict                 409
│   ├── RoundNotOpen             round_not_open
│   ├── RoundTallied             round_tallied
│   ├── ResultsNotReady          results_not_ready
│   ├── AlreadyEntered           already_entered
│   ├── AlreadyQueued            already_queued
│   ├── QueueFull                queue_full
│   ├── VotesFull                votes_full
│   └── PolicyExists             policy_exists
├── Forbidden                403
│   ├── NotYours                 not_yours
│   ├── OwnMeme                  own_meme
│   └── Suspended                suspended
├── Gone                     410
│   ├── MemeRemoved              meme_removed
│   └── SubmissionWithdrawn      submission_withdrawn
└── Unacceptable             422
    ├── StakeTooSmall            stake_too_small
    ├── KeyReused                idempotency_key_reused
    └── InvalidPolicy            invalid_policy

IllegalTransition is no refusal but a contradiction between events: it stops the event that
brings it.
"""

from typing import ClassVar


class RoundsError(Exception):
    """Base of all refusals; the message is the detail that the caller reads."""

    code: ClassVar[str] = "refused"
    headers: ClassVar[dict[str, str]] = {}


class Missing(RoundsError):  # noqa: N818 - named as the answer reads
    """There is no such thing."""


class Conflict(RoundsError):  # noqa: N818 - named as the answer reads
    """Not in the state that things are in."""


class Forbidden(RoundsError):  # noqa: N818 - named as the answer reads
    """Not for this caller."""


class Gone(RoundsError):  # noqa: N818 - named as the answer reads
    """It was here, and will not come back."""


class Unacceptable(RoundsError):  # noqa: N818 - named as the answer reads
    """The request contradicts a rule."""


class RoundNotFound(Missing):
    code = "round_not_found"


class NoRoundYet(Missing):
    code = "no_round_yet"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "5"}


class MemeNotInRound(Missing):
    code = "meme_not_in_round"


class SubmissionNotFound(Missing):
    code = "submission_not_found"


class VoteNotFound(Missing):
    code = "vote_not_found"


class RewardNotFound(Missing):
    code = "reward_not_found"


class NotKnownYet(Missing):
    code = "not_known_yet"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class RoundNotOpen(Conflict):
    code = "round_not_open"


class RoundTallied(Conflict):
    code = "round_tallied"


class ResultsNotReady(Conflict):
    code = "results_not_ready"


class AlreadyEntered(Conflict):
    code = "already_entered"


class AlreadyQueued(Conflict):
    code = "already_queued"


class QueueFull(Conflict):
    code = "queue_full"


class VotesFull(Conflict):
    code = "votes_full"


class PolicyExists(Conflict):
    code = "policy_exists"


class NotYours(Forbidden):
    code = "not_yours"


class OwnMeme(Forbidden):
    code = "own_meme"


class Suspended(Forbidden):
    code = "suspended"


class MemeRemoved(Gone):
    code = "meme_removed"


class SubmissionWithdrawn(Gone):
    code = "submission_withdrawn"


class StakeTooSmall(Unacceptable):
    code = "stake_too_small"


class KeyReused(Unacceptable):
    code = "idempotency_key_reused"


class InvalidPolicy(Unacceptable):
    code = "invalid_policy"


class IllegalTransition(Exception):  # noqa: N818 - a contradiction, not a refusal
    """A fact came that cannot be true of a round in this state."""
