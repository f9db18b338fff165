"""What a process says of itself on its internal port."""

import httpx

from memepool_common.web.app import Probes, internal_app


async def test_a_check_that_is_added_while_others_are_made_counts() -> None:
    probes = Probes()

    async def check() -> None:
        probes.add("another", check)

    probes.add("thing", check)
    assert "starting" in await probes.failures()
    assert not probes.started
    assert await probes.failures() == {}


async def test_probes_tell_failing_draining_and_ready() -> None:
    probes = Probes()
    ready = False

    async def check() -> None:
        if not ready:
            raise ConnectionError

    transport = httpx.ASGITransport(internal_app(probes))
    async with httpx.AsyncClient(transport=transport, base_url="http://sample") as client:
        assert (await client.get("/livez")).status_code == 200
        assert "starting" in (await client.get("/readyz")).json()  # nothing is opened yet
        probes.add("thing", check)
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/startupz")).status_code == 503
        ready = True
        assert (await client.get("/readyz")).status_code == 200
        ready = False
        assert (await client.get("/startupz")).status_code == 200
        ready = True
        probes.draining = True
        assert (await client.get("/readyz")).json()["status"] == "failing"
        assert b"memepool_http_requests_total" in (await client.get("/metrics")).content
