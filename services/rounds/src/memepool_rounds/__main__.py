"""`python -m memepool_rounds api|migrate`."""

from memepool_common.cli import main
from memepool_rounds.app import create_apps
from memepool_rounds.settings import Settings

if __name__ == "__main__":
    main("rounds", Settings, create_apps)
