"""AITubo's HTTP application.

Ways to fail, ordered by the control API's `fail` on `/api/job/create`: `job-refused` (a code other
than 0), `job-failed` (status 3), `job-empty` (done, without an image), `job-nsfw` (flagged), and
on any path 500, 429, timeout, garbage and slow.
"""

import contextlib
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from pydantic import Field, SecretStr, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from memepool_common.settings import Group
from memepool_common.web.middleware import BodyLimit
from memepool_sandbox.aitubo.jobs import Job, JobRequest, Jobs
from memepool_sandbox.faults import FaultInjector, Faults, Mode

_QUEUED, _RUNNING, _DONE, _FAILED = 0, 1, 2, 3
_CREDITS_PER_IMAGE = 2
_BODY_BYTES_MAX = 64 * 1024
_PICTURE = re.compile(r"([0-9a-f]{24})-([0-9])\.jpg")
_MODEL = {
    "id": "6426f9c60ca4651b98b91a6d",
    "name": "Sandbox Painter",
    "username": "Aitubo",
    "desc": "Coloured shapes from a prompt",
    "cover": "assets/model/6426f9c60ca4651b98b91a6d/cover.jpg",
    "isFavourite": False,
    "controlNet": False,
    "kind": "checkpoint",
    "baseModel": "sdxl_1.0",
    "nsfw": False,
    "free": True,
}


class AituboSettings(Group):
    """`job_s`: seconds until a job is done, half of them in the queue."""

    api_key: SecretStr
    job_s: float = Field(default=2.0, ge=0)


def create_aitubo_app(
    folder: Path, settings: AituboSettings, faults: Faults | None = None
) -> ASGIApp:
    """The job API under `/api` and the pictures under `/images`; jobs are kept in `folder`."""
    source = httpx.AsyncClient(follow_redirects=False)
    jobs = Jobs(folder, source, time.time)
    api = _Api(jobs, settings, faults or Faults())

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with source:
            yield
            await jobs.close()

    return Starlette(
        routes=[
            Route("/api/model/list", api.models),
            Route("/api/job/create", api.create, methods=["POST"]),
            Route("/api/job/upscale", api.upscale, methods=["POST"]),
            Route("/api/job/get", api.get),
            Route("/images/art/{job}/{name}", api.picture),
        ],
        middleware=[
            Middleware(FaultInjector, faults=api.faults),
            Middleware(BodyLimit, bytes_max=_BODY_BYTES_MAX, by_path={}),
        ],
        lifespan=lifespan,
    )


class _Api:
    def __init__(self, jobs: Jobs, settings: AituboSettings, faults: Faults) -> None:
        self.jobs = jobs
        self.settings = settings
        self.faults = faults

    async def models(self, request: Request) -> Response:
        data = {"domain": _domain(request), "total": 1, "models": [_MODEL]}
        return JSONResponse({"code": 0, "info": "", "data": data})

    async def create(self, request: Request) -> Response:
        return await self._accept(request, {})

    async def upscale(self, request: Request) -> Response:
        return await self._accept(request, {"prompt": "upscale", "strength": 0.01})

    async def _accept(self, request: Request, defaults: dict[str, Any]) -> Response:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if key != self.settings.api_key.get_secret_value():
            return _error(401, "invalid api key")
        try:
            body = await request.json()
            wanted = JobRequest.model_validate({**defaults, **body})
        except (ValueError, TypeError, RecursionError) as error:
            return _error(400, _first(error))
        fault = self.faults.take(request.url.path, job=True)
        if fault == Mode.JOB_REFUSED:
            return _error(1001, "the prompt violates the content policy")
        job = self.jobs.create(wanted, fault)
        consumed = _CREDITS_PER_IMAGE * wanted.count
        data = {"id": job.id, "credit": 1000, "subCredit": 0, "consumedCredit": consumed}
        return JSONResponse({"code": 0, "info": "", "data": data})

    async def get(self, request: Request) -> Response:
        job = self.jobs.get(request.query_params.get("id", ""))
        if job is None:
            return _error(404, "job not found")
        status = self._status(job)
        result: dict[str, Any] | None = None
        if status == _FAILED:
            info = job.failure or "generation failed"
            result = {"code": 1, "info": info, "data": None}
        elif status == _DONE:
            result = {"code": 0, "info": "", "data": _images(job, _domain(request))}
        return JSONResponse({"code": 0, "info": "", "data": {"status": status, "result": result}})

    async def picture(self, request: Request) -> Response:
        name = _PICTURE.fullmatch(request.path_params["name"].split("!", 1)[0])
        if name is None or name[1] != request.path_params["job"]:
            return Response(b"", 404)
        data = self.jobs.picture(name[1], int(name[2]))
        return Response(b"", 404) if data is None else Response(data, media_type="image/jpeg")

    def _status(self, job: Job) -> int:
        age_s = self.jobs.age_s(job)
        if age_s < self.settings.job_s / 2:
            return _QUEUED
        if age_s < self.settings.job_s or (job.images is None and job.failure is None):
            return _RUNNING
        return _FAILED if job.failure is not None or job.fault == Mode.JOB_FAILED else _DONE


def _images(job: Job, domain: str) -> dict[str, Any]:
    count = 0 if job.fault == Mode.JOB_EMPTY else job.images or 0
    return {
        "domain": domain,
        "images": [f"images/art/{job.id}/{job.id}-{n}.jpg" for n in range(count)],
        "nsfws": [job.fault == Mode.JOB_NSFW] * count,
        "artIds": [job.id] * count,
    }


def _domain(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}/"


def _error(code: int, info: str) -> Response:
    """Errors come with status 200 and a code in the body."""
    return JSONResponse({"code": code, "info": info, "data": None})


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return "invalid JSON"
