"""Makes every service's database and roles in a PostgreSQL that somebody else runs."""

import sys
import time

import psycopg
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from memepool_common.settings import Group, environment
from memepool_sandbox.postgres import PostgresServer, RolePasswords, provision

EXIT_WRONG = 1
EXIT_UNUSABLE = 2
ATTEMPTS = 30
ATTEMPT_INTERVAL_S = 1.0


class GivenPasswords(Group):
    """The passwords of one service's two roles."""

    owner: SecretStr
    app: SecretStr


class ProvisionSettings(BaseSettings):
    """Environment: `MEMEPOOL_SANDBOX_SUPERUSER_URL`, `MEMEPOOL_SANDBOX_AUTH__OWNER` and so on."""

    model_config = environment("sandbox")

    superuser_url: SecretStr
    auth: GivenPasswords
    content: GivenPasswords
    rounds: GivenPasswords
    payments: GivenPasswords


def provision_all() -> int:
    """Make what is missing and set all passwords; harmless when repeated. Gives the exit code."""
    try:
        settings = ProvisionSettings()
    except ValidationError as error:
        print(error, file=sys.stderr)
        return EXIT_UNUSABLE
    server = PostgresServer.at(settings.superuser_url.get_secret_value())
    for attempt in range(1, ATTEMPTS + 1):
        try:
            for service in ("auth", "content", "rounds", "payments"):
                given: GivenPasswords = getattr(settings, service)
                passwords = RolePasswords(
                    given.owner.get_secret_value(), given.app.get_secret_value()
                )
                provision(server, service, passwords=passwords)
        except psycopg.OperationalError as error:
            print(f"memepool: attempt {attempt} of {ATTEMPTS}: {error}", file=sys.stderr)
            time.sleep(ATTEMPT_INTERVAL_S)
        else:
            return 0
    return EXIT_WRONG
