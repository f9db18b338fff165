"""The circuit breaker, on a clock of its own."""

from memepool_content.adapters.breaker import Breaker


def test_opens_tries_once_and_closes() -> None:
    now_s = 0.0
    breaker = Breaker(2, 10.0, lambda: now_s)
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.allows()  # not two in a row
    breaker.failed()
    assert not breaker.allows()
    now_s = 9.9
    assert not breaker.allows()
    now_s = 10.0
    assert breaker.allows()
    assert breaker.allows()  # the trial is due until somebody makes it
    breaker.calling()
    assert not breaker.allows()
    breaker.failed()
    now_s = 19.9
    assert not breaker.allows()
    now_s = 20.0
    assert breaker.allows()
    breaker.calling()
    breaker.succeeded()
    assert breaker.allows()
    breaker.calling()
    assert breaker.allows()
