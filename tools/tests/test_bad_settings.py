"""A process with a setting that it cannot work with ends at once, and says which one."""

import sys
from importlib import import_module

import pytest

from memepool_common import telemetry
from memepool_common.cli import main
from tools.env_example import examples

BAD = [
    ("AUTH_TELEMETRY__LOG_LEVEL", "debug"),
    ("AUTH_TELEMETRY__OTLP_ENDPOINT", "collector:4318"),
    ("AUTH_AUTHN__INTERNAL_URL", "auth:9000"),
    ("AUTH_BUS__URL", "http://auth:pass-word@rabbitmq:5672/memepool"),
    ("AUTH_BUS__URL", "amqp://auth:pass/word@rabbitmq:5672/memepool"),
    ("AUTH_BUS__URL", "rabbitmq"),
    ("AUTH_DATABASE__URL", "postgres://auth_app:pass-word@postgres/auth"),
    ("AUTH_DATABASE__URL", "postgresql+psycopg://auth_app:pass/word@postgres/auth"),
    ("AUTH_DATABASE__OWNER_URL", "auth"),
    ("AUTH_DATABASE__STATEMENT_TIMEOUT_S", "inf"),
    ("AUTH_DATABASE__STATEMENT_TIMEOUT_S", "0.0001"),  # 0 ms would be no limit at all
    ("AUTH_HTTP__DRAIN_TIMEOUT_S", "inf"),
    ("AUTH_SIGN_IN__FIRST_ADMIN", "1BoatSLRHtKNngkdXEeobR76b53LETtpyU"),  # one letter is wrong
    ("GATEWAY_UPSTREAMS__AUTH", "http://auth:port"),
    ("GATEWAY_UPSTREAMS__AUTH", "http://auth:8000/auth"),
    ("GATEWAY_REDIS__URL", "redis:6379"),
    ("GATEWAY_EDGE__ORIGINS", "https://memepool.example"),  # JSON is wanted
    ("ROUNDS_CHAIN__SOURCE_URL", "api.whatsonchain.com"),
    ("PAYMENTS_CHAIN__SOURCE_URL", "api.whatsonchain.com"),
    ("PAYMENTS_CHAIN__DEPOSIT_XPUB", "xpub661MyMwAqRbc"),
    ("CONTENT_STORE__S3__BUCKET", "pass-word"),  # beside a folder, and without keys
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_ends_the_process_with_its_name_and_without_itself(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = name.partition("_")[0].lower()
    for each, good in examples(service).items():
        monkeypatch.setenv(each, good)
    monkeypatch.setenv(f"MEMEPOOL_{name}", value)
    monkeypatch.setattr(sys, "argv", ["memepool", "api"])
    monkeypatch.setattr(telemetry, "setup", lambda *_: None)  # the tests' logs stay as they are
    app = import_module(f"memepool_{service}.app")
    settings = import_module(f"memepool_{service}.settings")
    with pytest.raises(SystemExit) as ended:
        main(service, settings.Settings, app.create_apps)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    _, _, setting = name.partition("_")
    assert setting.partition("__")[0].lower() in said.lower()
    assert f" {value}" not in said
    assert "word" not in said
