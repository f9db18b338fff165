"""`python -m memepool_sandbox run|demo|world|provision`."""

import sys

from memepool_sandbox.launcher.options import Options, parser
from memepool_sandbox.launcher.run import demo, run
from memepool_sandbox.provisioning import provision_all
from memepool_sandbox.world import world


def main() -> int:
    """Run a command; returns its exit code."""
    arguments = parser().parse_args()
    if arguments.command == "demo":
        return demo()
    if arguments.command == "world":
        return world(arguments)
    if arguments.command == "provision":
        return provision_all()
    return run(
        Options(
            port=arguments.port,
            block_seconds=arguments.block_seconds,
            players=arguments.players,
            data=arguments.data,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
