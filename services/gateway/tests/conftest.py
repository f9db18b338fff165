"""Fixtures of the gateway's tests."""

import pytest

from services.gateway.tests.harness import StartGateway, start


@pytest.fixture
def start_gateway() -> StartGateway:
    """`async with start_gateway(upstream_url) as gateway`; all services answer at that URL."""
    return start
