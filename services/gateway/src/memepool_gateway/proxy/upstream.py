"""One service behind the gateway: its connections, its retries, its circuit."""

import asyncio
import random
import time

import aiohttp
import structlog
from multidict import CIMultiDict
from prometheus_client import Counter
from yarl import URL

from memepool_common.web.problem import Problem
from memepool_gateway.proxy.body import RequestBody
from memepool_gateway.settings import UpstreamSettings

HEADER_BYTES_MAX = 16 * 1024
RETRY_DELAY_S = (0.02, 0.1)
READS = frozenset({"GET", "HEAD"})
log = structlog.get_logger(__name__)

UPSTREAM_FAILURES = Counter(
    "memepool_gateway_upstream_failures_total", "Exchanges that got no answer", ["upstream", "code"]
)


class Upstream:
    """A pool of connections to one service. Open it inside the running loop."""

    def __init__(self, name: str, url: str, settings: UpstreamSettings) -> None:
        self.name = name
        self._url = url
        self._settings = settings
        self._circuit = _Circuit(settings.failures_max, settings.open_s)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool; connections are made when they are needed."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._settings.connections_max,
                keepalive_timeout=self._settings.idle_connection_s,
                ttl_dns_cache=10,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
        )
        # aiohttp sends PUT and DELETE again by itself when a kept connection turns out dead; here
        # only reads are, by our own rule. It has no public switch for that.
        self._session._retry_connection = False  # noqa: SLF001 - see above; a test guards it

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        body: RequestBody,
        *,
        answer_timeout_s: float,
    ) -> aiohttp.ClientResponse:
        """Send a request and wait for the head of the answer; the caller closes the answer.

        A read without a body is tried once more when it got no answer, unless time ran out.

        Raises:
            Problem: 503 `service_unavailable`, 502 `service_failed`, 504 `service_timeout`; or
                what ended the body early.
            ClientGone: the client went away within the body.
        """
        if self._circuit.is_open():
            raise self._unavailable()
        tries_left = 2 if method in READS and not body.exists else 1
        while True:
            tries_left -= 1
            try:
                answer = await self._send(method, target, headers, body, answer_timeout_s)
            except (aiohttp.ClientError, OSError) as error:
                if body.failure is not None:  # what broke the request off was not the service
                    raise body.failure from error
                if tries_left and not isinstance(error, TimeoutError):
                    await asyncio.sleep(random.uniform(*RETRY_DELAY_S))  # noqa: S311 - jitter
                    continue
                raise self._failed(error) from error
            self._circuit.close()
            return answer

    async def read(self, answer: aiohttp.ClientResponse) -> bytes:
        """All of an answer's body.

        Raises:
            Problem: 502 `service_failed`, 504 `service_timeout`.
        """
        try:
            return await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            raise self._failed(error) from error

    async def _send(
        self,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        body: RequestBody,
        answer_timeout_s: float,
    ) -> aiohttp.ClientResponse:
        assert self._session is not None, "open() comes first"  # noqa: S101 - wiring
        answer = await self._session.request(
            method,
            URL(self._url + target, encoded=True),
            headers=headers,
            data=body.content,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=self._settings.connect_timeout_s,
                sock_read=answer_timeout_s,
            ),
        )
        if answer.status < 200:  # 101: nobody asked for another protocol
            answer.close()
            raise aiohttp.ClientPayloadError(f"an answer of status {answer.status}")
        return answer

    def _failed(self, error: Exception) -> Problem:
        self._circuit.count_failure()
        if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
            problem = self._unavailable()
        elif isinstance(error, TimeoutError):
            detail = f"The {self.name} service did not answer in time; it may still have acted."
            problem = Problem(504, "service_timeout", detail)
        else:
            detail = f"The {self.name} service broke off; it may still have acted."
            problem = Problem(502, "service_failed", detail)
        UPSTREAM_FAILURES.labels(self.name, problem.code).inc()
        log.warning("upstream_failed", upstream=self.name, code=problem.code, error=repr(error))
        return problem

    def _unavailable(self) -> Problem:
        detail = f"The {self.name} service cannot be reached; nothing was done. Try again."
        return Problem(503, "service_unavailable", detail, headers={"Retry-After": "1"})


class _Circuit:
    """Opens after failures in a row, so that a dead service does not tie up its callers."""

    def __init__(self, failures_max: int, open_s: float) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._failures = 0
        self._open_until_s = 0.0

    def is_open(self) -> bool:
        return time.monotonic() < self._open_until_s

    def count_failure(self) -> None:
        self._failures += 1
        if self._failures >= self._failures_max:
            self._open_until_s = time.monotonic() + self._open_s

    def close(self) -> None:
        self._failures = 0
        self._open_until_s = 0.0
