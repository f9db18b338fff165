"""AITubo's API: its answers are untrusted, bounded in size, and each is one of four outcomes.

An answer is what was asked for; `RefusedError`, a definite no; `NotSentError`, nothing happened
there; `NoAnswerError`, nobody knows. Nothing is repeated here: only the caller knows what may be.
"""

import asyncio
import math
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import httpx
from pydantic import BaseModel, Field, ValidationError

from memepool_content.domain.transformation import Kind
from memepool_content.settings import AituboSettings

ANSWER_BYTES_MAX = 1024 * 1024
MODELS_PAGE_SIZE = 100
INFO_LENGTH_MAX = 300
UPSCALE_FACTOR = 2
_TOO_MANY_REQUESTS = 429
AnyModel = TypeVar("AnyModel", bound=BaseModel)


class ImageAIError(Exception):
    """An outcome other than the answer; the message may be shown to the owner."""


class RefusedError(ImageAIError):
    """A definite no."""


class NotSentError(ImageAIError):
    """It was not reached, or was too busy to listen: the request had no effect."""


class NoAnswerError(ImageAIError):
    """The request may have had its effect, or not."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to submit. Sides in pixels; `source_url` is None for text2image."""

    kind: Kind
    prompt: str
    source_url: str | None
    width: int
    height: int
    strength: float | None
    model_id: str | None


@dataclass(frozen=True, slots=True)
class Submitted:
    """The AI's own job, and the credits that it took for it; None if it did not say."""

    id: str
    credits_consumed: int | None


class RemoteState(BaseModel):
    """How far a job is: queued, running, or ended with pictures or without."""

    running: bool = False
    ended: bool = False
    failure: str | None = None
    image_urls: tuple[str, ...] = ()
    nsfw: bool = False


class ImageAI(Protocol):
    """What transformations need of an image AI. All raise ImageAIError."""

    async def models(self) -> dict[str, str]:
        """The ids of models by their names in lower case."""
        ...

    async def submit(self, order: Order) -> Submitted:
        """Start a job: the one call that costs credits."""
        ...

    async def state(self, job_id: str) -> RemoteState:
        """How far a job is."""
        ...


class _Answer(BaseModel):
    code: int
    info: str | None = None
    message: str | None = None
    data: Any = None


class _Model(BaseModel):
    id: str = Field(max_length=64)
    name: str = Field(max_length=200)


class _Models(BaseModel):
    models: list[_Model]


class _Created(BaseModel):
    id: str = Field(min_length=1, max_length=64, pattern=r"^[\w-]+$")
    consumed_credit: Any = Field(default=None, alias="consumedCredit")

    @property
    def credits_consumed(self) -> int | None:
        """None if it cannot be read: the job has been taken all the same."""
        given = self.consumed_credit
        known = isinstance(given, int | float) and 0 <= given < 2**31
        return math.ceil(given) if known else None


class _Images(BaseModel):
    """What is empty may be null."""

    domain: str | None = Field(default=None, max_length=2_000)
    images: list[str] | None = Field(default=None, max_length=16)
    nsfws: list[bool] | None = Field(default=None, max_length=16)


class _Result(BaseModel):
    code: int = 0
    info: str | None = None
    message: str | None = None
    data: _Images | None = None


class _State(BaseModel):
    status: int
    result: _Result | None = None


_RUNNING, _DONE, _FAILED = 1, 2, 3


class Aitubo:
    """The client; one connection pool."""

    def __init__(self, settings: AituboSettings) -> None:
        key = settings.api_key.get_secret_value()
        self._settings = settings
        self._http = httpx.AsyncClient(
            base_url=settings.base_url,
            headers={
                "Authorization": f"Bearer {key}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
            timeout=httpx.Timeout(settings.timeout_s, connect=settings.connect_timeout_s),
            follow_redirects=False,
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def models(self) -> dict[str, str]:
        """The ids of the platform's models by their names in lower case."""
        params = {"pageIndex": 1, "pageSize": MODELS_PAGE_SIZE, "type": "platform"}
        data = await self._call("GET", "/api/model/list", params=params)
        return {model.name.casefold(): model.id for model in _parsed(_Models, data).models}

    async def submit(self, order: Order) -> Submitted:
        """Start a job: the one call that costs credits."""
        if order.kind is Kind.UPSCALE:
            body: dict[str, Any] = {"imagePath": order.source_url, "upscaleFactor": UPSCALE_FACTOR}
            data = await self._call("POST", "/api/job/upscale", json=body)
        else:
            body = {
                "prompt": order.prompt,
                "width": order.width,
                "height": order.height,
                "count": 1,
                "imageFormat": "jpg",
                "safetyChecker": True,
                "modelId": order.model_id,
                "imagePath": order.source_url,
                "strength": order.strength,
            }
            given = {name: value for name, value in body.items() if value is not None}
            data = await self._call("POST", "/api/job/create", json=given)
        created = _parsed(_Created, data)
        return Submitted(created.id, created.credits_consumed)

    async def state(self, job_id: str) -> RemoteState:
        """How far a job is. A status that we do not know counts as not ended."""
        found = _parsed(_State, await self._call("GET", "/api/job/get", params={"id": job_id}))
        result = found.result or _Result()
        if found.status == _FAILED or (found.status == _DONE and result.code != 0):
            failure = _text(result.info or result.message) or "The generation failed."
            return RemoteState(ended=True, failure=failure)
        if found.status != _DONE:
            return RemoteState(running=found.status == _RUNNING)
        images = result.data or _Images()
        urls = tuple(f"{images.domain or ''}{path}" for path in images.images or () if path)
        return RemoteState(ended=True, image_urls=urls, nsfw=any(images.nsfws or ()))

    async def _call(self, method: str, path: str, **more: Any) -> Any:
        """The answer's `data`."""
        try:
            async with (
                asyncio.timeout(self._settings.timeout_s),  # of an answer that trickles, too
                self._http.stream(method, path, **more) as response,
            ):
                body = await _capped(response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NotSentError("The image AI cannot be reached.") from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise NoAnswerError("The image AI did not answer.") from error
        if response.status_code == _TOO_MANY_REQUESTS:
            raise NotSentError("The image AI is too busy.")
        if response.status_code >= 500 or response.is_redirect:
            raise NoAnswerError(f"The image AI answered {response.status_code}.")
        try:
            answer = _Answer.model_validate_json(body)
        except ValidationError as error:
            if response.is_client_error:
                raise RefusedError(f"The image AI answered {response.status_code}.") from error
            raise NoAnswerError("The image AI's answer cannot be read.") from error
        if answer.code != 0 or response.is_client_error:
            said = _text(answer.info or answer.message)
            raise RefusedError(said or f"The image AI refused with code {answer.code}.")
        return answer.data


async def _capped(response: httpx.Response) -> bytes:
    """The body as it came: unpacking it, which nobody asked for, could make it any size."""
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            raise NoAnswerError("The image AI's answer is too long.")
    return bytes(body)


def _parsed(model: type[AnyModel], data: Any) -> AnyModel:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise NoAnswerError("The image AI's answer cannot be read.") from error


def _text(info: str | None) -> str | None:
    """What it said, fit to be stored and shown."""
    if not info:
        return None
    printable = "".join(character if character.isprintable() else " " for character in info)
    return printable.encode(errors="replace").decode()[:INFO_LENGTH_MAX].strip() or None
