import socket

import pytest


def test_a_test_below_a_unit_folder_has_no_network() -> None:
    # pytest-socket warns before it raises, and a warning is an error here.
    with pytest.raises(UserWarning, match="tried to use socket"):
        socket.socket()


def test_it_has_unix_sockets_which_event_loops_need() -> None:
    first, second = socket.socketpair()
    with first, second:
        first.sendall(b"x")
        assert second.recv(1) == b"x"
