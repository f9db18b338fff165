"""`python -m memepool_content api|worker|migrate`."""

from memepool_common.cli import main
from memepool_content import worker
from memepool_content.app import create_apps
from memepool_content.settings import Settings

if __name__ == "__main__":
    main("content", Settings, create_apps, worker.run, worker.topology)
