"""Addresses from outside: only listed origins, and no name that leads to a private address."""

import errno
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memepool_common.server import serving
from memepool_content.adapters.aitubo import NoAnswerError
from memepool_content.adapters.result_fetcher import ResultFetcher, ResultRefusedError
from memepool_content.settings import AituboSettings


def fetcher(*origins: str, networks: Sequence[str] = ()) -> ResultFetcher:
    values = {
        "api_key": "key",
        "source_base_url": "https://memes.example",
        "source_key": "k" * 32,
        "result_origins": origins,
        "result_networks": networks,
    }
    return ResultFetcher(AituboSettings.model_validate(values))


@pytest.mark.parametrize(
    "address",
    [
        "http://files.example/a.jpg",
        "https://files.example:8443/a.jpg",
        "https://files.example.evil.test/a.jpg",
        "https://files.example@evil.test/a.jpg",
        "https://user@files.example/a.jpg",
        "https://127.0.0.1/a.jpg",
        "file:///etc/passwd",
        "//files.example/a.jpg",
        "images/a.jpg",
        "https://[::1/a.jpg",
        "https://xn--/a.jpg",
        "",
    ],
)
async def test_what_is_not_on_the_list_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ResultRefusedError):
        await fetcher("https://files.example").fetch(address, tmp_path / "result")
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("found", [["10.0.0.7"], ["::1"], ["203.0.114.9", "192.168.1.1"], []])
async def test_a_listed_name_may_not_lead_to_a_private_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: list[str]
) -> None:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    with pytest.raises(ResultRefusedError, match="public"):
        await fetcher("https://files.example").fetch(
            "https://files.example/a.jpg", tmp_path / "result"
        )


async def test_a_private_network_that_the_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lead_to(ip: str) -> None:
        answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 1))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)

    fetching = fetcher("http://world:1", networks=["127.0.0.0/30"])
    lead_to("127.0.0.1")
    with pytest.raises(NoAnswerError):  # nobody listens there, but it was tried
        await fetching.fetch("http://world:1/a.jpg", tmp_path / "result")
    lead_to("127.0.0.9")
    with pytest.raises(ResultRefusedError, match="public"):
        await fetching.fetch("http://world:1/a.jpg", tmp_path / "result")


async def test_a_listed_address_is_taken_at_its_word(tmp_path: Path) -> None:
    with pytest.raises(NoAnswerError):  # nobody listens there, but it was tried
        await fetcher("http://127.0.0.1:1").fetch("http://127.0.0.1:1/a.jpg", tmp_path / "result")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (302, ResultRefusedError),
        (404, ResultRefusedError),
        (429, NoAnswerError),
        (503, NoAnswerError),
    ],
)
async def test_no_redirect_is_followed_and_only_what_may_pass_is_tried_again(
    tmp_path: Path, status: int, outcome: type[Exception]
) -> None:
    asked: list[str] = []

    async def answer(request: Request) -> Response:
        asked.append(request.url.path)
        return Response(b"", status, {"Location": "/elsewhere"})

    async with serving(Starlette(routes=[Route("/{path}", answer)]), "127.0.0.1", 0) as port:
        origin = f"http://127.0.0.1:{port}"
        with pytest.raises(outcome):
            await fetcher(origin).fetch(f"{origin}/a.jpg", tmp_path / "result")
    assert asked == ["/a.jpg"]


async def test_a_full_disk_is_no_fault_of_the_picture(tmp_path: Path) -> None:
    async def answer(_request: Request) -> Response:
        return Response(b"picture")

    (tmp_path / "result").symlink_to("/dev/full")
    async with serving(Starlette(routes=[Route("/a.jpg", answer)]), "127.0.0.1", 0) as port:
        origin = f"http://127.0.0.1:{port}"
        with pytest.raises(OSError) as told:  # noqa: PT011 - its number matters
            await fetcher(origin).fetch(f"{origin}/a.jpg", tmp_path / "result")
    assert told.value.errno == errno.ENOSPC
