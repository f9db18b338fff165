"""How long an ended session may still be let in: what the intervals on the way add up to."""

from memepool_auth.use_cases.auth_state import LIFETIME_S
from memepool_common.settings import AuthnSettings

SECOND_S = 1.0
ANSWER_S = 0.1


def test_an_ended_session_is_known_everywhere_within_a_second() -> None:
    poll_interval_s = AuthnSettings(internal_url="http://127.0.0.1:1").poll_interval_s
    assert LIFETIME_S + poll_interval_s + 2 * ANSWER_S < SECOND_S
