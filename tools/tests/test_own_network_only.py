import socket

import pytest


def test_a_test_reaches_this_machine_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        socket.create_connection(listener.getsockname(), timeout=5).close()
    # pytest-socket warns before it raises, and a warning is an error here.
    blocked = pytest.raises(UserWarning, match="tried to use socket")
    with socket.socket() as outward, blocked:
        outward.connect(("192.0.2.1", 80))  # an address kept for documentation
