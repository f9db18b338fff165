"""`python -m memepool_auth api|worker|migrate`."""

from memepool_auth import worker
from memepool_auth.app import create_apps
from memepool_auth.settings import Settings
from memepool_common.cli import main

if __name__ == "__main__":
    main("auth", Settings, create_apps, worker.run, worker.topology)
