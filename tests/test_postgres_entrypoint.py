"""The entrypoint of the PostgreSQL image, on this machine's own PostgreSQL, in namespaces that look like a pod's."""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
DATA = "/volume/data"
PASSWORD = 'it\'s "$secret" \\'
SQL = "create table t(a int); insert into t select generate_series(1, 1000);"
# A root of its own, read-only, with only what a pod mounts: /tmp, the socket's directory, the volume, the scripts.
CONTAINER = """
set -e
root=$1 entrypoint=$2 volume=$3 scripts=$4
shift 4
mount --make-rprivate /
mount -t tmpfs root "$root"
cd "$root"
mkdir -p bin dev etc lib lib64 proc tmp usr var/run/postgresql image volume docker-entrypoint-initdb.d
for folder in bin dev etc lib lib64 usr; do mount --rbind "/$folder" $folder; done
mount -t proc proc proc
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=0777 run var/run/postgresql
mount --bind "$entrypoint" image
mount --bind "$volume" volume
mount --bind "$scripts" docker-entrypoint-initdb.d
mount -o remount,ro "$root"
ip link set lo up
exec chroot --userspec="$USER_IN_CONTAINER" "$root" /image/docker-entrypoint.sh "$@"
"""

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(os.geteuid() != 0 or not SERVERS, reason="needs root and a PostgreSQL server"),
]


class Container:
    """One volume, and containers on it, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folders = {name: folder / name for name in ("root", "volume", "scripts")}
        for path in self.folders.values():
            path.mkdir()
        self.log = folder / "log"
        subprocess.run(["chown", "postgres:postgres", self.folders["volume"]], check=True)
        self.folders["scripts"].joinpath("10.sql").write_text(SQL)

    @property
    def data(self) -> Path:
        return self.folders["volume"] / "data"

    def start(self, *arguments: str, user: str = "postgres", **environment: str) -> subprocess.Popen[bytes]:
        """Start the entrypoint as process 1; its output is in `log`."""
        programs = SERVERS[-1]
        variables = {
            "PATH": f"{programs}:/usr/bin:/bin:/usr/sbin:/sbin",
            "PG_MAJOR": programs.parent.name,
            "PGDATA": DATA,
            "LANG": "C.UTF-8",
            "USER_IN_CONTAINER": user,
            "POSTGRES_PASSWORD": PASSWORD,
        }
        folders = [
            str(self.folders["root"]),
            str(ROOT / "roles/image/files/bases/postgres"),
            str(self.folders["volume"]),
            str(self.folders["scripts"]),
        ]
        return subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "bash",
                "-c",
                CONTAINER,
                "container",
                *folders,
                *arguments,
            ],
            env={key: value for key, value in (variables | environment).items() if value},
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def process_1(self, running: subprocess.Popen[bytes]) -> str:
        """The process that is number 1 inside."""
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        return children[0]

    def wait_for(self, running: subprocess.Popen[bytes], text: str, count: int = 1) -> None:
        """Wait until the output has `text` this many times."""
        deadline = time.monotonic() + 30
        while self.output().count(text) < count:
            assert running.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.05)

    def query(self, running: subprocess.Popen[bytes], sql: str, password: str = PASSWORD) -> str:
        """Ask the server over TCP, with a password."""
        done = subprocess.run(
            [
                "nsenter",
                "--target",
                self.process_1(running),
                "--net",
                str(SERVERS[-1] / "psql"),
                "-X",
                "-At",
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-c",
                sql,
            ],
            env={"PGPASSWORD": password, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        return (done.stdout + done.stderr).strip()

    def stop(self, running: subprocess.Popen[bytes]) -> None:
        """Stop it as Kubernetes does, by the image's stop signal."""
        os.kill(int(self.process_1(running)), signal.SIGINT)
        assert running.wait(timeout=30) == 0, self.output()

    def fail(self, *arguments: str, **environment: str) -> str:
        """Run it to its end, which must be a failure, and return its output."""
        assert self.start(*arguments, **environment).wait(timeout=60) == 1, self.output()
        return self.output()

    def output(self) -> str:
        return self.log.read_text(errors="replace")


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """A container on an empty volume."""
    return Container(tmp_path)


def test_it_makes_the_database_once_and_serves(container: Container) -> None:
    scripts = container.folders["scripts"]
    (scripts / "20.sh").write_text('#!/bin/sh\npsql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "create role r"\n')
    (scripts / "20.sh").chmod(0o755)
    (scripts / "30.sql.gz").write_bytes(gzip.compress(b"create table z();"))
    initdb = "--auth-local=peer --auth-host='scram-sha-256' --data-checksums"
    running = container.start("-c", "max_connections=33", POSTGRES_INITDB_ARGS=initdb)
    container.wait_for(running, "ready to accept connections", count=2)
    settings = "show max_connections; show data_checksums; table z; select rolname from pg_roles where rolname = 'r'"
    assert container.query(running, settings).split() == ["33", "on", "r"]
    assert container.query(running, "select count(*) from t") == "1000"
    assert "password authentication failed" in container.query(running, "select 1", password="wrong")
    server = Path(f"/proc/{container.process_1(running)}/environ").read_bytes()
    assert b"POSTGRES_USER" in server
    assert b"secret" not in server
    container.stop(running)

    running = container.start("postgres")
    container.wait_for(running, "ready to accept connections")
    assert container.query(running, "select count(*) from t") == "1000"
    assert "making" not in container.output()
    container.stop(running)


def test_a_failing_script_leaves_nothing_that_passes_for_a_database(container: Container) -> None:
    bad = container.folders["scripts"] / "20.sql"
    bad.write_text("select 1/0;")
    for _ in range(2):
        assert "division by zero" in container.fail()
        assert not (container.data / "PG_VERSION").exists()
    bad.unlink()
    running = container.start()
    container.wait_for(running, "the database is made")
    container.wait_for(running, "ready to accept connections", count=2)
    assert container.query(running, "select count(*) from t") == "1000"
    container.stop(running)


def test_killed_at_any_moment_it_makes_a_whole_database_in_the_end(container: Container) -> None:
    for _ in range(12):
        running = container.start()
        time.sleep(random.uniform(0.1, 1.6))
        os.killpg(running.pid, signal.SIGKILL)  # with process 1 everything in the container dies
        running.wait()
    running = container.start()
    container.wait_for(running, "listening on IPv4")
    container.wait_for(running, "ready to accept connections")
    while "starting up" in (answer := container.query(running, "select count(*) from t")):
        time.sleep(0.1)
    assert answer == "1000"
    assert not [path for path in container.data.iterdir() if path.name in (".making", ".finished")]
    container.stop(running)


def test_killed_while_moving_into_place_it_goes_on(container: Container) -> None:
    running = container.start()
    container.wait_for(running, "ready to accept connections", count=2)
    container.stop(running)
    half_way = "mkdir .finished; mv PG_VERSION base pg_wal .finished"
    subprocess.run(["runuser", "-u", "postgres", "--", "bash", "-ec", half_way], cwd=container.data, check=True)
    running = container.start()
    container.wait_for(running, "ready to accept connections")
    assert container.query(running, "select count(*) from t") == "1000"
    container.stop(running)


def test_a_signal_ends_the_making_at_once(container: Container) -> None:
    (container.folders["scripts"] / "20.sql").write_text("select pg_sleep(60);")
    running = container.start()
    container.wait_for(running, "20.sql")
    began = time.monotonic()
    os.kill(int(container.process_1(running)), signal.SIGTERM)
    assert running.wait(timeout=30) == 143
    assert time.monotonic() - began < 20


def test_two_servers_never_share_the_data(container: Container, tmp_path: Path) -> None:
    running = container.start()
    container.wait_for(running, "ready to accept connections", count=2)
    first, container.log = container.log, tmp_path / "second"
    second = container.start()
    container.wait_for(second, "another server or a restore still uses")
    time.sleep(1)
    assert "ready" not in container.output()
    container.log, second_log = first, container.log
    container.stop(running)
    container.log = second_log
    container.wait_for(second, "ready to accept connections")
    container.stop(second)


def test_a_restore_that_was_ended_between_its_renames_has_not_happened(container: Container) -> None:
    running = container.start()
    container.wait_for(running, "ready to accept connections", count=2)
    container.stop(running)
    volume = container.folders["volume"]
    container.data.rename(volume / "data.replaced")
    (volume / "data.restoring").mkdir()
    # What an older server has made of it.
    container.data.mkdir(mode=0o700)
    subprocess.run(["chown", "-R", "postgres:postgres", container.data, volume / "data.restoring"], check=True)
    running = container.start()
    container.wait_for(running, "ready to accept connections")
    assert "putting /volume/data.replaced back: a restore was ended between its renames" in container.output()
    assert container.query(running, "select count(*) from t") == "1000"
    container.stop(running)
    assert sorted(path.name for path in volume.iterdir() if not path.name.startswith(".")) == ["data"]


def test_data_that_was_taken_away_is_no_new_site(container: Container) -> None:
    (container.folders["volume"] / "data.original").mkdir()
    said = container.fail()
    assert "/volume/data is empty, and /volume/data.original or .replaced has the data of before a restore" in said


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"POSTGRES_PASSWORD": ""}, "set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE"),
        ({"POSTGRES_PASSWORD_FILE": "/etc/passwd"}, "are both set"),
        ({"POSTGRES_PASSWORD": "", "POSTGRES_PASSWORD_FILE": "/nowhere"}, "cannot be read by uid"),
        ({"POSTGRES_PASSWORD": "two\nlines"}, "more than one line"),
        ({"POSTGRES_INITDB_ARGS": "--nonsense"}, "nothing of it is kept"),
        ({"PGDATA": "/etc/data"}, "must be a directory of uid"),
        ({"user": "root"}, "refuses to run as root"),
        ({"user": "nobody"}, "must be a directory of uid"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(container: Container, environment: dict[str, str], text: str) -> None:
    assert text in container.fail(**environment)
    assert not list(container.data.glob("[!.]*"))


def test_a_bad_server_argument_is_told(container: Container) -> None:
    assert "did not start" in container.fail("-c", "nonsense=1")


def test_the_password_comes_from_a_file(container: Container) -> None:
    (container.folders["volume"] / "password").write_text("from a file\n")
    running = container.start(
        POSTGRES_PASSWORD="",
        POSTGRES_PASSWORD_FILE="/volume/password",
        POSTGRES_INITDB_ARGS="--auth-host=scram-sha-256",
    )
    container.wait_for(running, "ready to accept connections", count=2)
    assert container.query(running, "select 1", password="from a file") == "1"
    container.stop(running)


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("9", "holds data of PostgreSQL 9"),
        (None, "neither empty nor PostgreSQL's"),
    ],
)
def test_what_is_not_its_own_is_left_alone(container: Container, version: str | None, text: str) -> None:
    container.data.mkdir(mode=0o700)
    kept = container.data / ("PG_VERSION" if version else "precious")
    kept.write_text(version or "data")
    subprocess.run(["chown", "-R", "postgres:postgres", container.data], check=True)
    assert text in container.fail()
    assert [path.name for path in container.data.iterdir()] == [kept.name]


@contextlib.contextmanager
def full_volume(container: Container, megabytes: int) -> Iterator[Path]:
    """A volume that is full, of a server that was killed; give the file that fills it."""
    volume = container.folders["volume"]
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0777", "volume", volume], check=True)
    try:
        running = container.start()
        container.wait_for(running, "ready to accept connections", count=2)
        container.stop(running)
        running = container.start()
        container.wait_for(running, "ready to accept connections")
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        with contextlib.suppress(OSError), (volume / "ballast").open("wb") as ballast:
            while True:
                ballast.write(bytes(2**20))
        yield volume / "ballast"
    finally:
        subprocess.run(["umount", "--lazy", volume], check=True)


def test_a_server_that_filled_its_volume_recovers_in_its_reserve(container: Container) -> None:
    with full_volume(container, 400):
        running = container.start()
        container.wait_for(running, "ready to accept connections")
        assert "giving up the reserve, 64 MB, so that the server can recover" in container.output()
        assert container.query(running, "drop table t; select 1").endswith("1")
        container.stop(running)


def test_a_full_volume_is_waited_for_after_a_crash(container: Container) -> None:
    """A server that cannot write its log would stop, and be started again ever later."""
    with full_volume(container, 192) as ballast:
        running = container.start()
        container.wait_for(running, "No space left on device: /volume/data has 0 MB free")
        time.sleep(2)
        assert "ready to accept connections" not in container.output()
        ballast.unlink()
        container.wait_for(running, "ready to accept connections")
        assert container.query(running, "select count(*) from t") == "1000"
        container.stop(running)


def test_2_full_volume_is_no_reason_to_go_without_a_lock(container: Container) -> None:
    """Data from before there was a file to lock, on a volume that takes no other file."""
    volume = container.folders["volume"]
    options = "size=400m,nr_inodes=4000,mode=0777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "volume", volume], check=True)
    try:
        running = container.start()
        container.wait_for(running, "ready to accept connections", count=2)
        container.stop(running)
        (volume / ".data.lock").unlink()
        ballast = volume / "ballast"
        ballast.mkdir()
        with contextlib.suppress(OSError):
            for number in range(4000):
                (ballast / str(number)).touch()
        said = container.fail()
        assert "/volume/.data.lock cannot be written, and without that lock another server could use the data" in said
        shutil.rmtree(ballast)
        running = container.start()
        container.wait_for(running, "ready to accept connections")
        container.stop(running)
    finally:
        subprocess.run(["umount", "--lazy", volume], check=True)


def test_volume_where_nobody_may_write_needs_no_file_to_lock(container: Container) -> None:
    """PGDATA is PostgreSQL's, what it is in is root's."""
    container.data.mkdir(mode=0o700)
    subprocess.run(["chown", "postgres:postgres", container.data], check=True)
    subprocess.run(["chown", "root:root", container.folders["volume"]], check=True)
    running = container.start()
    container.wait_for(running, "ready to accept connections", count=2)
    container.stop(running)
