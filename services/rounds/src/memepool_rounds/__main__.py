"""`python -m memepool_rounds api|worker|migrate`."""

from memepool_common.cli import main
from memepool_rounds import worker
from memepool_rounds.app import create_apps
from memepool_rounds.settings import Settings

if __name__ == "__main__":
    main("rounds", Settings, create_apps, worker.run, worker.topology)
