"""An image process: reads requests from its standard input, one at a time, answers on its output.

Both ways a message is a 4-byte big-endian length and that many bytes of JSON; images travel as
files in a folder that the parent made. The process limits itself before it reads the first
request: memory once, processor and wall time anew for each request. Past a limit the kernel kills
it, and the parent blames the file.

    python -m memepool_content.imaging.process MEMORY_BYTES_MAX FILE_BYTES_MAX
"""

import json
import os
import resource
import signal
import struct
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from memepool_content.domain.errors import DISK_ERRNOS, ImageRejectedError
from memepool_content.domain.image import Caps
from memepool_content.domain.meme import Variant
from memepool_content.imaging.alternatives import write_alternatives
from memepool_content.imaging.pipeline import process

MESSAGE_BYTES_MAX = 64 * 1024
OPEN_FILES_MAX = 64
_LENGTH = struct.Struct(">I")


def main() -> None:
    """Serve until the parent closes the pipe."""
    memory_bytes_max, file_bytes_max = (int(argument) for argument in sys.argv[1:3])
    requests, answers = _pipes()
    _limit(memory_bytes_max, file_bytes_max)
    warnings.simplefilter("ignore")  # our caps decide, not a library's advice
    while (request := _receive(requests)) is not None:
        _arm(request["cpu_s"], request["wall_s"])
        answer = _answer(request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        body = json.dumps(answer).encode()
        answers.write(_LENGTH.pack(len(body)) + body)
        answers.flush()
        if "exhausted" in answer:
            return  # the heap is in shreds: start over with a new process


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two ends; whatever a library prints goes to the error output instead."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return os.fdopen(os.dup(0), "rb"), answers


def _limit(memory_bytes_max: int, file_bytes_max: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES_MAX, OPEN_FILES_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes_max, memory_bytes_max))


def _arm(cpu_s: int, wall_s: float) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + cpu_s, hard))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, wall_s)


def _receive(requests: BinaryIO) -> dict[str, Any] | None:
    head = requests.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    if size > MESSAGE_BYTES_MAX:
        return None
    request: dict[str, Any] = json.loads(requests.read(size))
    return request


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    folder = Path(request["folder"])
    try:
        if "originals" in request:
            originals = [Variant(**original) for original in request["originals"]]
            files = [Path(path) for path in request["files"]]
            return {"written": asdict(write_alternatives(originals, files, folder))}
        caps = Caps(**request["caps"])
        done = process(Path(request["source"]), folder, caps, request["quality_min"])
    except ImageRejectedError as error:
        return {"rejected": {"code": error.code, "detail": error.detail}}
    except MemoryError:
        return {"exhausted": True}
    except OSError as error:
        if error.errno not in DISK_ERRNOS:
            raise
        return {"errno": error.errno}
    return {"processed": asdict(done)}


if __name__ == "__main__":
    main()
