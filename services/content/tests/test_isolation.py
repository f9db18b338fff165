"""Decoders are loaded in image processes only."""

import subprocess
import sys

PROGRAM = """
import sys, memepool_content.app
assert "numpy" not in sys.modules, "the API loads numpy"
import memepool_content.worker
assert not any(name.split(".")[0] == "PIL" for name in sys.modules), "the service loads a decoder"
"""


def test_neither_api_nor_worker_loads_a_decoder() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
