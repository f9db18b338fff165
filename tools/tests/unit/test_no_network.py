import socket

import pytest
from pytest_socket import SocketBlockedError


def test_a_test_below_a_unit_folder_has_no_network() -> None:
    with pytest.raises(SocketBlockedError):
        socket.socket()


def test_it_has_unix_sockets_which_event_loops_need() -> None:
    first, second = socket.socketpair()
    with first, second:
        first.sendall(b"x")
        assert second.recv(1) == b"x"
