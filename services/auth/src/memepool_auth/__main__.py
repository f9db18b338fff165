"""`python -m memepool_auth api|worker|migrate|rotate-keys|rebuild-stats`."""

from memepool_auth import worker
from memepool_auth.app import create_apps
from memepool_auth.commands import rebuild_stats, rotate_keys
from memepool_auth.settings import Settings
from memepool_common.cli import main

COMMANDS = {"rotate-keys": rotate_keys, "rebuild-stats": rebuild_stats}

if __name__ == "__main__":
    main("auth", Settings, create_apps, worker.run, worker.topology, COMMANDS)
