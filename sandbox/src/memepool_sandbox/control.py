"""The control API: what a developer or a test does to the simulated world.

It listens on the loopback address, like everything of the sandbox. A web page in the developer's
browser could still reach it, so each call must name a loopback host (no DNS rebinding) and be
`application/json` (no form or plain request of another site gets through without a preflight).
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from memepool_chain.address import AddressError
from memepool_common.web.problem import FieldError, Problem, problem_response
from memepool_sandbox.chain.faucet import FUND_SATS_MAX, FaucetError
from memepool_sandbox.chain.node import MINE_BLOCKS_MAX, REORG_DEPTH_MAX, Node, ReorgError
from memepool_sandbox.chain.rules import RefusedError
from memepool_sandbox.faults import Faults, Mode

_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
_TIMES_MAX = 100_000
_PATH_LENGTH_MAX = 500
_STATUS = {"unknown_transaction": 404, "not_ours": 409, "faucet_empty": 409, "bad_amount": 422}


class _Command(BaseModel):
    """Strict: a misspelt field or a number in quotes is an error, not a default."""

    model_config = ConfigDict(extra="forbid", strict=True)


class MineCommand(_Command):
    blocks: Annotated[int, Field(ge=1, le=MINE_BLOCKS_MAX)] = 1


class FundCommand(_Command):
    address: str
    satoshis: Annotated[int, Field(ge=1, le=FUND_SATS_MAX)]


class ReorgCommand(_Command):
    """`keepTransactions` false: the transactions of the replaced blocks are gone."""

    depth: Annotated[int, Field(ge=1, le=REORG_DEPTH_MAX)]
    keep_transactions: Annotated[bool, Field(alias="keepTransactions")] = True


class DoubleSpendCommand(_Command):
    txid: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class FailCommand(_Command):
    path: Annotated[str, Field(pattern="^/", max_length=_PATH_LENGTH_MAX)]
    mode: Annotated[Mode, Field(strict=False)]
    times: Annotated[int, Field(ge=0, le=_TIMES_MAX)] = 1


CommandT = TypeVar("CommandT", bound=_Command)
Endpoint = Callable[[Request], Awaitable[Response]]


class ControlRoutes:
    """The calls under /control."""

    def __init__(self, node: Node, faults: Faults) -> None:
        self._node = node
        self._faults = faults

    def routes(self) -> list[Route]:
        """The routes."""
        calls: dict[str, Endpoint] = {
            "mine": _endpoint(MineCommand, self.mine),
            "fund": _endpoint(FundCommand, self.fund),
            "reorg": _endpoint(ReorgCommand, self.reorg),
            "double-spend": _endpoint(DoubleSpendCommand, self.double_spend),
            "fail": _endpoint(FailCommand, self.fail),
        }
        return [Route(f"/control/{name}", call, methods=["POST"]) for name, call in calls.items()]

    def mine(self, command: MineCommand) -> dict[str, Any]:
        """Mine blocks at once."""
        return self._tip(self._node.mine(command.blocks))

    def fund(self, command: FundCommand) -> dict[str, Any]:
        """Pay an address by a real transaction; it waits in the mempool for a block."""
        return {"txid": self._node.fund(command.address, command.satoshis)}

    def reorg(self, command: ReorgCommand) -> dict[str, Any]:
        """Replace the last blocks by a longer branch."""
        keep = command.keep_transactions
        return self._tip(self._node.reorg(command.depth, keep_transactions=keep))

    def double_spend(self, command: DoubleSpendCommand) -> dict[str, Any]:
        """Replace a faucet's transaction by one that conflicts with it."""
        rival = self._node.double_spend(command.txid)
        return {"txid": rival, "replaces": command.txid, "height": self._node.branches.tip.height}

    def fail(self, command: FailCommand) -> dict[str, Any]:
        """Let the next requests to a path fail."""
        try:
            self._faults.order(command.path, command.mode, command.times)
        except ValueError as error:
            raise Problem(409, "too_many_faults", f"{error}.") from error
        return {"path": command.path, "mode": command.mode, "times": command.times}

    def _tip(self, hashes: list[str]) -> dict[str, Any]:
        return {"height": self._node.branches.tip.height, "hashes": hashes}


def _endpoint(model: type[CommandT], act: Callable[[CommandT], dict[str, Any]]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        try:
            _check_origin(request)
            return JSONResponse(act(await _command(request, model)))
        except Problem as problem:
            return problem_response(problem, request.url.path)
        except (AddressError, FaucetError, ReorgError, RefusedError) as error:
            return problem_response(_problem(error), request.url.path)

    return endpoint


def _problem(error: AddressError | FaucetError | ReorgError | RefusedError) -> Problem:
    match error:
        case AddressError() | FaucetError():
            return Problem(_STATUS.get(error.code, 422), error.code, error.detail)
        case ReorgError():
            return Problem(422, "reorg_too_deep", str(error))
        case RefusedError():
            return Problem(409, "refused_by_node", f"The node refused: {error}.")


def _check_origin(request: Request) -> None:
    host = request.headers.get("host", "")
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name not in _LOOPBACK_HOSTS:
        raise Problem(421, "wrong_host", "The control API answers only to a loopback host.")
    content_type = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if content_type != "application/json":
        raise Problem(415, "unsupported_media_type", "Send application/json.")


async def _command(request: Request, model: type[CommandT]) -> CommandT:
    body = await request.body()
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        errors = [
            FieldError("/" + "/".join(map(str, e["loc"])), e["type"], e["msg"])
            for e in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        fields = ", ".join(f.alias or name for name, f in model.model_fields.items())
        detail = f"The body is not a command of this call; its fields are: {fields}."
        raise Problem(422, "invalid_request", detail, errors) from error
