"""The simulated AITubo over real HTTP: jobs, pictures, and its ways to fail."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from PIL import Image
from pydantic import SecretStr

from memepool_common.server import serving
from memepool_common.testing.waiting import until
from memepool_sandbox.aitubo.app import AituboSettings, create_aitubo_app
from memepool_sandbox.faults import Faults, Mode

KEY = {"Authorization": "Bearer api-test"}
SETTINGS = AituboSettings(api_key=SecretStr("api-test"), job_s=0)


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest_asyncio.fixture
async def http(tmp_path: Path, faults: Faults) -> AsyncIterator[httpx.AsyncClient]:
    app = create_aitubo_app(tmp_path / "aitubo", SETTINGS, faults)
    async with (
        serving(app, "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield client


async def create(http: httpx.AsyncClient, **body: Any) -> Any:
    response = await http.post("/api/job/create", json=body, headers=KEY)
    assert response.status_code == 200
    return response.json()


async def finished(http: httpx.AsyncClient, job_id: str) -> Any:
    """The job once it is done or has failed."""
    data: Any = None

    async def ended() -> bool:
        nonlocal data
        data = (await http.get("/api/job/get", params={"id": job_id})).json()["data"]
        return data["status"] in {2, 3}

    await until(ended)
    return data


async def test_a_prompt_becomes_pictures(http: httpx.AsyncClient) -> None:
    pictures = []
    for _ in range(2):
        created = await create(http, prompt="a cat \u732b", width=200, height=120, count=2, seed=5)
        assert created["code"] == 0
        assert created["data"]["consumedCredit"] == 4
        job = await finished(http, created["data"]["id"])
        result = job["result"]["data"]
        assert job["result"]["code"] == 0
        assert result["nsfws"] == [False, False]
        assert result["domain"].endswith("/")
        for path in result["images"]:
            picture = await http.get(result["domain"] + path)
            assert picture.headers["content-type"] == "image/jpeg"
            pictures.append(picture.content)
    assert pictures[:2] == pictures[2:]  # same prompt and seed
    assert pictures[0] != pictures[1]
    with Image.open(io.BytesIO(pictures[0])) as image:
        assert image.size == (200, 120)


async def test_a_picture_is_restyled(http: httpx.AsyncClient) -> None:
    first = await finished(http, (await create(http, prompt="start"))["data"]["id"])
    url = first["result"]["data"]["domain"] + first["result"]["data"]["images"][0]
    styled = await finished(http, (await create(http, prompt="x", imagePath=url))["data"]["id"])
    path = styled["result"]["data"]["images"][0]
    assert (await http.get(f"/{path}")).content != (await http.get(url)).content
    assert (await http.get(f"/{path}!w1280")).status_code == 200
    for bad in (
        url + "x",
        "http://127.0.0.1:1/",
        "nonsense",
        str(http.base_url) + "/api/model/list",
    ):
        failed = await finished(http, (await create(http, prompt="x", imagePath=bad))["data"]["id"])
        assert failed["status"] == 3
        assert failed["result"]["info"].startswith("image cannot be read")


async def test_ordered_failures(http: httpx.AsyncClient, faults: Faults) -> None:
    for mode in (Mode.JOB_REFUSED, Mode.JOB_FAILED, Mode.JOB_EMPTY, Mode.JOB_NSFW):
        faults.order("/api/job/create", mode, 1)
    refused = await create(http, prompt="x")
    assert refused["code"] != 0
    assert refused["info"]
    failed = await finished(http, (await create(http, prompt="x"))["data"]["id"])
    assert (failed["status"], failed["result"]["code"]) == (3, 1)
    nothing = await finished(http, (await create(http, prompt="x"))["data"]["id"])
    assert (nothing["status"], nothing["result"]["data"]["images"]) == (2, [])
    flagged = await finished(http, (await create(http, prompt="x"))["data"]["id"])
    assert flagged["result"]["data"]["nsfws"] == [True]
    faults.order("/api/job", Mode.SERVER_ERROR, 1)
    assert (await http.get("/api/job/get", params={"id": "x"})).status_code == 500


async def test_bad_requests_have_a_code(http: httpx.AsyncClient) -> None:
    for body in ({}, {"prompt": ""}, {"prompt": "x", "width": 10**6}, {"prompt": "x", "count": 99}):
        assert (await create(http, **body))["code"] == 400
    for raw in (b"", b"[]", b"{", b"[" * 60_000):
        response = await http.post("/api/job/create", content=raw, headers=KEY)
        assert response.json()["code"] == 400
    stranger = await http.post("/api/job/create", json={"prompt": "x"})
    assert stranger.json()["code"] == 401
    for job_id in ("", "abc", "../../etc/passwd", "0" * 24):
        answer = (await http.get("/api/job/get", params={"id": job_id})).json()
        assert answer["code"] == 404
    for path in ("/images/art/x/y.jpg", f"/images/art/{'0' * 24}/{'0' * 24}-0.jpg"):
        assert (await http.get(path)).status_code == 404
    assert (await http.get("/api/model/list")).json()["data"]["models"][0]["id"]


async def test_jobs_outlive_the_process(tmp_path: Path) -> None:
    ids: list[str] = []
    for _ in range(2):
        app = create_aitubo_app(tmp_path, SETTINGS)
        async with (
            serving(app, "127.0.0.1", 0) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
        ):
            if not ids:  # the first process ends before the job does
                ids.append(
                    (await create(http, prompt="slow", width=1024, height=1024))["data"]["id"]
                )
            else:
                job = await finished(http, ids[0])
                assert len(job["result"]["data"]["images"]) == 1


async def test_a_job_takes_its_time(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"job_s": 3_600})
    async with (
        serving(create_aitubo_app(tmp_path, settings), "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        job_id = (await create(http, prompt="x"))["data"]["id"]
        answer = (await http.get("/api/job/get", params={"id": job_id})).json()
        assert answer["data"] == {"status": 0, "result": None}
