"""What a client may do in a minute, and how an answer tells it (draft-ietf-httpapi-ratelimit)."""

from typing import Literal
from uuid import UUID

from prometheus_client import Counter

from memepool_common.web.problem import Problem
from memepool_gateway.limits.counter import Check, RateCounter
from memepool_gateway.settings import RateSettings

Kind = Literal["read", "write", "sign_in", "upload"]
KINDS: tuple[Kind, ...] = ("read", "write", "sign_in", "upload")
Headers = dict[str, str]

REFUSED = Counter("memepool_gateway_rate_limited_total", "Calls refused", ["kind", "scope"])


class Gate:
    """Counts each call for its address, and for its user if it has a token."""

    def __init__(self, settings: RateSettings, counter: RateCounter) -> None:
        self._counter = counter
        self._window_s = settings.window_s
        self._quotas: dict[Kind, list[tuple[str, int]]] = {}
        for kind in KINDS:
            rate = getattr(settings, kind)
            quotas = [("address", rate.per_address), ("user", rate.per_user)]
            self._quotas[kind] = [(scope, quota) for scope, quota in quotas if quota is not None]

    async def enter(self, kind: Kind, network: str, user_id: UUID | None) -> Headers:
        """Count a call; gives the headers that tell how it stands.

        Args:
            kind: of the call.
            network: what counts as one address (`network_of`).
            user_id: of the token's user, if there is one.

        Raises:
            Problem: 429 `rate_limited`.
        """
        quotas = self._quotas[kind][: 2 if user_id else 1]
        subjects = (network, user_id)
        checks = [
            Check(f"{kind}:{scope}:{subject}", quota, self._window_s * 1_000)
            for (scope, quota), subject in zip(quotas, subjects, strict=False)
        ]
        standings = await self._counter.hit(checks)
        policies, limits = [], []
        for (scope, quota), standing in zip(quotas, standings, strict=True):
            name = f'"{kind}-{scope}"'
            policies.append(f"{name};q={quota};w={self._window_s}")
            limits.append(f"{name};r={standing.remaining};t={standing.reset_s}")
        headers = {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(limits)}
        refusals = [
            (standing.reset_s, scope, quota)
            for (scope, quota), standing in zip(quotas, standings, strict=True)
            if not standing.allowed
        ]
        if refusals:
            wait_s, scope, quota = max(refusals)
            REFUSED.labels(kind, scope).inc()
            whose = "from your address" if scope == "address" else "by you"
            detail = (
                f"More than {quota} calls of the kind {kind!r} {whose} within"
                f" {self._window_s} seconds. Try again in {wait_s} s."
            )
            headers["Retry-After"] = str(wait_s)
            raise Problem(429, "rate_limited", detail, headers=headers)
        return headers
