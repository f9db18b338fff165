"""Ports for servers that start a moment later."""

import socket
import subprocess
import sys

from memepool_sandbox.launcher.options import (
    AITUBO_PORT_OFFSET,
    CHAIN_PORT_OFFSET,
    free_port_block,
)
from memepool_sandbox.ports import HOST, free_ports

CHOOSE = "from memepool_sandbox.ports import free_ports; print(*free_ports(300))"


def test_nobody_chooses_what_another_has_chosen() -> None:
    ours = [port for _ in range(3) for port in free_ports(100)]
    assert len(set(ours)) == 300
    choosing = [
        subprocess.Popen([sys.executable, "-c", CHOOSE], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    # Each says what it chose and ends; the second may have the first one's block after that.
    theirs = {int(port) for each in choosing for port in each.communicate()[0].split()}
    assert len(theirs) >= 300
    assert not theirs & set(ours)


def test_what_is_taken_is_left_out() -> None:
    (port,) = free_ports(1)
    with socket.socket() as taken:
        taken.bind((HOST, port + 1))
        assert port + 1 not in free_ports(300)


def test_the_simulators_have_ports_too() -> None:
    port = free_port_block()
    theirs = {port + CHAIN_PORT_OFFSET, port + AITUBO_PORT_OFFSET}
    assert not theirs & set(free_ports(300))
