"""Two services ask the same source of blocks with the same key."""

from memepool_payments.settings import ChainSettings as PaymentsChain
from memepool_rounds.settings import ChainSettings as RoundsChain

PUBLISHED_PER_S = 3.0


def test_together_they_stay_under_the_published_limit() -> None:
    payments, rounds = PaymentsChain.model_fields, RoundsChain.model_fields
    assert payments["source_url"].default == rounds["source_url"].default
    together_per_s = payments["source_rate_per_s"].default + rounds["rate_per_s"].default
    assert together_per_s < PUBLISHED_PER_S
