"""Copies a picture from where the image AI says that it lies: an address from outside.

The origin must be on our list. Its name is resolved here, every address it has must be a public
one, or in a network that the settings name, and the connection goes to just that address, so that
no second look-up can lead elsewhere.
No redirect is followed, no more is read than allowed, and nothing is unpacked. A list entry that
is itself an address (`http://127.0.0.1:8091`) is taken at its word, private or not.
"""

import asyncio
import contextlib
import ipaddress
import socket
from pathlib import Path

import httpx

from memepool_content.adapters.aitubo import NoAnswerError
from memepool_content.domain.errors import DISK_ERRNOS
from memepool_content.settings import AituboSettings

_DEFAULT_PORTS = {"http": 80, "https": 443}


class ResultRefusedError(Exception):
    """The address or the size is not acceptable; the message may be shown to the owner."""


class ResultFetcher:
    """Fetches pictures; one connection each."""

    def __init__(self, settings: AituboSettings) -> None:
        self._allowed = {_origin(httpx.URL(origin)) for origin in settings.result_origins}
        self._networks = settings.result_networks
        self._bytes_max = settings.result_bytes_max
        self._timeout_s = settings.result_timeout_s

    async def fetch(self, address: str, target: Path) -> None:
        """Write the picture at `address` to `target`.

        Raises:
            ResultRefusedError: not from there, not so much, not at all.
            NoAnswerError: it may work another time.
            OSError: the disk is full or fails.
        """
        try:
            url = httpx.URL(address)
            listed = _origin(url) in self._allowed
        except (httpx.InvalidURL, UnicodeError) as error:  # the latter of its host name
            raise ResultRefusedError("The picture's address is malformed.") from error
        if not listed or url.userinfo:
            raise ResultRefusedError("The picture lies where pictures are not fetched from.")
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._copy(url, await self._resolved(url), target)
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
                raise
            raise NoAnswerError("The picture cannot be fetched.") from error

    async def _copy(self, url: httpx.URL, ip: str, target: Path) -> None:
        async with (
            httpx.AsyncClient(trust_env=False, follow_redirects=False) as http,
            http.stream(
                "GET",
                url.copy_with(host=ip),
                headers={
                    "Host": url.netloc.decode(),
                    "Accept": "image/*",
                    "Accept-Encoding": "identity",
                },
                extensions={"sni_hostname": url.host},
            ) as response,
        ):
            if response.status_code >= 500 or response.status_code == 429:
                raise NoAnswerError(f"The picture's server answered {response.status_code}.")
            if response.status_code != 200:
                detail = f"The picture's server answered {response.status_code}."
                raise ResultRefusedError(detail)
            size_bytes = 0
            with target.open("wb") as file:
                async for piece in response.aiter_raw():
                    size_bytes += len(piece)
                    if size_bytes > self._bytes_max:
                        detail = f"The picture has more than {self._bytes_max} bytes."
                        raise ResultRefusedError(detail)
                    await asyncio.to_thread(file.write, piece)

    async def _resolved(self, url: httpx.URL) -> str:
        """The address to connect to."""
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(url.host))
        port = url.port or _DEFAULT_PORTS[url.scheme]
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if not addresses or not all(map(self._is_allowed, addresses)):
            raise ResultRefusedError("The picture lies at an address that is not a public one.")
        return addresses[0]

    def _is_allowed(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        return parsed.is_global or any(parsed in network for network in self._networks)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or _DEFAULT_PORTS.get(url.scheme)
