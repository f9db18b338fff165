"""`python -m memepool_payments api|worker|migrate`."""

from memepool_common.cli import main
from memepool_payments import worker
from memepool_payments.app import create_apps
from memepool_payments.settings import Settings

if __name__ == "__main__":
    main("payments", Settings, create_apps, worker.run, worker.topology)
