"""What `make run` and `make demo` can be told."""

import argparse
import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from memepool_sandbox.ports import HOST, free_ports

CHAIN_PORT_OFFSET = 90
AITUBO_PORT_OFFSET = 91
PORT_MAX = 65_535


class PortTakenError(Exception):
    """A port that we must have is somebody else's."""


@dataclass(frozen=True)
class Options:
    """Where the system listens and lives, and how lively it is."""

    port: int = 8000
    block_seconds: float = 60.0
    players: int = 3
    data: Path = Path(".memepool")

    @property
    def chain_port(self) -> int:
        """The simulated chain's port, and its control API's."""
        return self.port + CHAIN_PORT_OFFSET

    @property
    def aitubo_port(self) -> int:
        """The simulated image AI's port."""
        return self.port + AITUBO_PORT_OFFSET

    def require_free_ports(self) -> None:
        """Fail early and clearly.

        Raises:
            PortTakenError: one line that names the port and the way out.
        """
        for port in (self.port, self.chain_port, self.aitubo_port):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                        raise
                    reason = os.strerror(error.errno).lower()
                    msg = f"port {port}: {reason}; choose others, say make run PORT=9000"
                    raise PortTakenError(msg) from error


def free_port_block() -> int:
    """A port that is free together with its simulators' ports, which nobody else is given."""
    while True:
        ports = free_ports(AITUBO_PORT_OFFSET + 1)
        if ports[-1] - ports[0] == AITUBO_PORT_OFFSET:
            return ports[0]


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m memepool_sandbox`."""
    top = argparse.ArgumentParser(
        prog="python -m memepool_sandbox", description="The whole of Memepool on this machine"
    )
    commands = top.add_subparsers(dest="command", required=True)
    for name, purpose in (
        ("run", "run everything in one process until Ctrl-C"),
        ("up-local", "start everything as processes of their own, in the background"),
        ("serve-local", "what up-local leaves behind"),
    ):
        command = commands.add_parser(name, help=purpose)
        command.add_argument("--port", type=_port, default=Options.port)
        command.add_argument("--block-seconds", type=_seconds, default=Options.block_seconds)
        command.add_argument("--players", type=_players, default=Options.players)
        command.add_argument("--data", type=Path, default=Options.data)
    down = commands.add_parser("down-local", help="end what up-local started")
    down.add_argument("--data", type=Path, default=Options.data)
    commands.add_parser("demo", help="play one whole round and account for every satoshi")
    world = commands.add_parser("world", help="serve the simulated chain and AITubo alone")
    world.add_argument("--host", default=HOST)
    world.add_argument("--port", type=_port, default=Options.port + CHAIN_PORT_OFFSET)
    world.add_argument("--block-seconds", type=_seconds, default=Options.block_seconds)
    world.add_argument("--data", type=Path, default=Options.data)
    commands.add_parser("provision", help="make databases and roles in somebody else's PostgreSQL")
    return top


def options_of(arguments: argparse.Namespace) -> Options:
    """What the command line says of the system."""
    return Options(
        port=arguments.port,
        block_seconds=arguments.block_seconds,
        players=arguments.players,
        data=arguments.data,
    )


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= PORT_MAX - AITUBO_PORT_OFFSET:
        msg = f"a port from 1 to {PORT_MAX - AITUBO_PORT_OFFSET}"
        raise argparse.ArgumentTypeError(msg)
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError("seconds from 1 to 86400")
    return seconds


def _players(text: str) -> int:
    players = int(text)
    if not 0 <= players <= 200:
        raise argparse.ArgumentTypeError("players from 0 to 200")
    return players
