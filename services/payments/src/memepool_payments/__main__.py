"""`python -m memepool_payments api|worker|migrate|verify|reverse`."""

import sys

from memepool_common.cli import main
from memepool_payments import reverse, verify, worker
from memepool_payments.app import create_apps
from memepool_payments.settings import Settings

if __name__ == "__main__":
    by_hand = {"verify": verify.main, "reverse": reverse.main}
    if sys.argv[1:2] and sys.argv[1] in by_hand:
        by_hand[sys.argv[1]](sys.argv[2:])
    else:
        main("payments", Settings, create_apps, worker.run, worker.topology)
