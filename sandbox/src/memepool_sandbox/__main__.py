"""`python -m memepool_sandbox run|demo|up-local|down-local|world|provision`."""

import sys
from argparse import Namespace
from collections.abc import Callable
from importlib import import_module

from memepool_sandbox.launcher.options import options_of, parser

# Loaded when called for: the simulated world alone needs none of the services.
_COMMANDS: dict[str, tuple[str, str, Callable[[Namespace], tuple[object, ...]]]] = {
    "run": ("launcher.run", "run", lambda arguments: (options_of(arguments),)),
    "demo": ("launcher.run", "demo", lambda _: ()),
    "up-local": ("launcher.local", "up", lambda arguments: (options_of(arguments),)),
    "serve-local": ("launcher.local", "serve", lambda arguments: (options_of(arguments),)),
    "down-local": ("launcher.local", "down", lambda arguments: (arguments.data,)),
    "world": ("world", "world", lambda arguments: (arguments,)),
    "provision": ("provisioning", "provision_all", lambda _: ()),
}


def main() -> int:
    """Run a command; returns its exit code."""
    arguments = parser().parse_args()
    module, function, of = _COMMANDS[arguments.command]
    command: Callable[..., int] = getattr(import_module(f"memepool_sandbox.{module}"), function)
    return command(*of(arguments))


if __name__ == "__main__":
    sys.exit(main())
