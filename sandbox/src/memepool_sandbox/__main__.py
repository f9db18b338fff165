"""`python -m memepool_sandbox run|demo|up-local|down-local|world|provision`."""

import sys
from argparse import Namespace
from collections.abc import Callable

from memepool_sandbox.launcher import local
from memepool_sandbox.launcher.options import options_of, parser
from memepool_sandbox.launcher.run import demo, run
from memepool_sandbox.provisioning import provision_all
from memepool_sandbox.world import world


def main() -> int:
    """Run a command; returns its exit code."""
    commands: dict[str, Callable[[Namespace], int]] = {
        "run": lambda arguments: run(options_of(arguments)),
        "demo": lambda _: demo(),
        "up-local": lambda arguments: local.up(options_of(arguments)),
        "serve-local": lambda arguments: local.serve(options_of(arguments)),
        "down-local": lambda arguments: local.down(arguments.data),
        "world": world,
        "provision": lambda _: provision_all(),
    }
    arguments = parser().parse_args()
    return commands[arguments.command](arguments)


if __name__ == "__main__":
    sys.exit(main())
