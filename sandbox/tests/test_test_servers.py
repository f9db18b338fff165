"""The servers that tests run on."""

import socket
from pathlib import Path

import aio_pika
import pytest

from memepool_sandbox import rabbitmq_server, server_programs
from memepool_sandbox.rabbitmq_server import PrivateRabbitmq, RabbitmqError, RabbitmqServer
from memepool_sandbox.redis_server import PrivateRedis


def say(port: int, *lines: str) -> list[bytes]:
    with socket.create_connection(("127.0.0.1", port), 5) as link:
        link.sendall("".join(f"{line}\r\n" for line in lines).encode())
        answers = link.makefile("rb")
        return [answers.readline().strip() for _ in lines]


def test_redis_is_empty_at_the_start_of_each_test(
    redis_url: str, private_redis: PrivateRedis
) -> None:
    if private_redis.url == redis_url:
        assert say(private_redis.port, "DBSIZE", "SET a 1", "DBSIZE") == [b":0", b"+OK", b":1"]
    private_redis.stop()
    with pytest.raises(ConnectionRefusedError):
        say(private_redis.port, "PING")
    private_redis.start()
    assert say(private_redis.port, "PING", "DBSIZE") == [b"+PONG", b":0"]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server_programs, "POLICY", tmp_path / "policy-rc.d")
    return tmp_path


def test_a_broker_that_cannot_be_administered_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setattr(rabbitmq_server, "MANAGEMENT_PORT", closed.getsockname()[1])
    with pytest.raises(RabbitmqError, match=r"no management plugin answers at http://127.0.0.1"):
        RabbitmqServer.at("amqp://guest:guest@127.0.0.1:5672")


def test_a_program_that_cannot_be_installed_is_named_with_what_helps(path: Path) -> None:
    with pytest.raises(server_programs.MissingServerError) as caught:
        server_programs.require_program("a-server", "a-package", "MEMEPOOL_TEST_A")
    assert str(caught.value) == (
        "the tests need a-server: install it (Debian, Ubuntu: apt install a-package),"
        " or give a test server's address in MEMEPOOL_TEST_A"
    )


def test_a_missing_program_is_announced_and_installed_and_starts_no_service(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    apt = path / "apt-get"
    apt.write_text(
        f'#!/bin/sh\necho "$@" >> {path}/calls\n'
        f'test "$("{path}/policy-rc.d"; echo $?)" = 101 || exit 1\n'
        f"echo '#!/bin/sh' > {path}/a-server; /bin/chmod +x {path}/a-server\n"
    )
    apt.chmod(0o755)
    found = server_programs.require_program("a-server", "a-package", "MEMEPOOL_TEST_A")
    assert found == str(path / "a-server")
    assert "installing Debian's a-package" in capsys.readouterr().out
    assert (path / "calls").read_text().splitlines() == [
        "-qq update",
        "-qq install -y --no-install-recommends a-package",
    ]
    assert not (path / "policy-rc.d").exists()


def test_a_failed_installation_says_why(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (path / "apt-get").write_text("#!/bin/sh\necho no network >&2\nexit 100\n")
    (path / "apt-get").chmod(0o755)
    with pytest.raises(server_programs.MissingServerError, match="apt-get update: no network"):
        server_programs.require_program("a-server", "a-package", "MEMEPOOL_TEST_A")
    assert not (path / "policy-rc.d").exists()


@pytest.mark.soak  # three boots
async def test_a_private_broker_keeps_what_it_holds_for_the_next_in_its_folder(
    tmp_path: Path,
) -> None:
    first, second, third = (PrivateRabbitmq(tmp_path) for _ in range(3))
    first.start()
    async with await aio_pika.connect(str(first.url)) as connection:
        channel = await connection.channel()
        await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, "kept")
    first.stop()
    second.start()
    third.start()  # nobody stopped the second: as if who could was killed
    async with await aio_pika.connect(str(third.url)) as connection:
        queue = await (await connection.channel()).declare_queue("kept", passive=True)
        async with queue.iterator(timeout=60) as messages:
            assert (await anext(messages)).body == b"kept"
    third.stop()
    second.stop()
