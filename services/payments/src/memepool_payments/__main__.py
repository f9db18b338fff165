from memepool_common.cli import main
from memepool_payments.app import create_apps
from memepool_payments.settings import Settings

main("payments", Settings, create_apps)
