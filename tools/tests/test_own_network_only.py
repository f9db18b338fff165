import socket

import pytest
from pytest_socket import SocketConnectBlockedError


def test_a_test_reaches_this_machine_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        socket.create_connection(listener.getsockname(), timeout=5).close()
    with socket.socket() as outward, pytest.raises(SocketConnectBlockedError):
        outward.connect(("192.0.2.1", 80))  # an address kept for documentation
