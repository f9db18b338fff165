"""Decoders are loaded in image processes only."""

import subprocess
import sys


def test_the_api_never_loads_numpy() -> None:
    program = "import sys, memepool_content.app; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_service_never_loads_a_decoder() -> None:
    program = (
        "import sys, memepool_content.app, memepool_content.worker;"
        "sys.exit(any(name.split('.')[0] == 'PIL' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
