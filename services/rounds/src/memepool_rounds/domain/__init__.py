"""The rules of rounds, votes and rewards: pure functions over frozen values."""
