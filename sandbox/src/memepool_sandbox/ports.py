"""Free ports of this machine's loopback address."""

import atexit
import functools
import itertools
import socket
from collections.abc import Iterator

HOST = "127.0.0.1"
_BLOCKS = range(15_000, 32_000, 1_000)
"""Below what Linux gives to outgoing connections: nobody takes one of these by accident before
the process that it was chosen for listens there."""


def free_ports(count: int) -> list[int]:
    """So many ports that are free now, ascending unless they are the last of their block.

    Each process has a block of ports to itself and gives them out in turn: whoever chooses at the
    same time, here or in another process, chooses others, though nobody listens yet.

    Raises:
        OSError: there are none to be found.
    """
    _, ports = _block()
    free = filter(_is_free, itertools.islice(ports, _BLOCKS.step))
    found = list(itertools.islice(free, count))
    if len(found) < count:
        raise OSError(f"no {count} free ports")
    return found


@functools.cache
def _block() -> tuple[socket.socket, Iterator[int]]:
    """A block is taken by who has bound its first port, until that process ends."""
    for first in _BLOCKS:
        mark = socket.socket()
        try:
            mark.bind((HOST, first))
        except OSError:
            mark.close()
        else:
            atexit.register(mark.close)
            return mark, itertools.cycle(range(first + 1, first + _BLOCKS.step))
    raise OSError(f"all blocks of ports from {_BLOCKS.start} to {_BLOCKS.stop} are taken")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
