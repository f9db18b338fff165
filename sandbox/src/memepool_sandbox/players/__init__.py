"""Simulated people who use nothing but the public API, and the faucet for their coins."""

from memepool_sandbox.players.crowd import play

__all__ = ["play"]
