"""`python -m memepool_payments api|worker|migrate|verify`."""

import sys

from memepool_common.cli import main
from memepool_payments import verify, worker
from memepool_payments.app import create_apps
from memepool_payments.settings import Settings

if __name__ == "__main__":
    if sys.argv[1:2] == ["verify"]:
        verify.main(sys.argv[2:])
    else:
        main("payments", Settings, create_apps, worker.run, worker.topology)
