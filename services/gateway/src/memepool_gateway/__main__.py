"""`python -m memepool_gateway api|worker`."""

from memepool_common.cli import main
from memepool_gateway import worker
from memepool_gateway.app import create_apps
from memepool_gateway.settings import Settings

if __name__ == "__main__":
    main("gateway", Settings, create_apps, worker.run, worker.topology)
