"""The script of an upgrade's Job, between two real PostgreSQL servers of this machine, of the same version."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from test_backup_scripts import CHECKSUM, DATABASE, ROWS, Server, last_line, pytestmark, running, server

__all__ = ["pytestmark", "running", "server"]

LIMIT = "select datconnlimit from pg_database where datname like 'the %'"


class Volume:
    """The new server's volume, and the server on it."""

    def __init__(self, old: Server) -> None:
        self.old, self.folder = old, old.folder / "volume"
        (self.folder / "sockets").mkdir(parents=True)
        (self.folder / "data").mkdir()
        subprocess.run(["chown", "-R", "postgres:postgres", self.folder], check=True)

    def upgrade(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the script, with more options of the server."""
        variables = {
            "PGDATA": str(self.folder / "data" / "pgdata"),
            "SOCKETS": str(self.folder / "sockets"),
            "POSTGRES_INITDB_ARGS": "--auth=trust --data-checksums",
            "LOGIN": str(self.old.folder / "admin"),
        }
        script = str(self.old.folder / "scripts" / "upgrade.sh")
        return self.old.program("bash", script, "-p", "5432", *options, **variables)

    def server(self, verb: str) -> None:
        """Start or stop the new server."""
        place = ["-D", str(self.folder / "data" / "pgdata"), "-l", str(self.folder / "log"), "-w"]
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder / 'sockets'}"
        done = self.old.program("pg_ctl", *place, "-o", options, verb)
        assert done.returncode == 0, done.stdout + done.stderr

    def sql(self, sql: str, database: str = DATABASE, user: str = "postgres") -> str:
        """What a statement returns in the new server, or the error."""
        place = ["-h", str(self.folder / "sockets"), "-U", user, "-d", database]
        run = self.old.program("psql", "-XAtq", *place, "-c", sql)
        return (run.stdout + run.stderr).strip()


@pytest.fixture
def volume(server: Server) -> Iterator[Volume]:
    made = Volume(server)
    yield made
    shutil.rmtree(made.folder)


def test_copy_has_everything_and_is_closed(server: Server, volume: Volume) -> None:
    server.sql('alter database "the ""site""" connection limit 7', "postgres")
    run = volume.upgrade()
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{ROWS} rows in public.note" in run.stdout
    assert f"copied 2 tables with {ROWS + 2} rows" in run.stdout
    volume.server("start")
    for sql in (server.sql, volume.sql):
        assert "too many connections" in sql("select 1", user="the app")
        assert sql((server.folder / "scripts" / "open.sql").read_text()) == ""
        assert sql(LIMIT) == "7"
        assert sql("select count(*) from note", user="the app") == str(ROWS)
        assert "permission denied" in sql("delete from note", user="the app")
        assert sql("select setconfig from pg_db_role_setting") == "{work_mem=7MB}"
    assert volume.sql(CHECKSUM) == server.sql(CHECKSUM)
    assert volume.sql("insert into note (text) values ('new') returning id") == str(ROWS + 1)
    assert volume.sql("show data_checksums") == "on"
    volume.server("stop")


def test_failure_opens_the_old_one_again(server: Server, volume: Volume) -> None:
    """An index on a function that a restore cannot run. The next run begins anew."""
    for statement in (
        "create function peek(int) returns bigint immutable language sql as 'select count(*) from note where id < $1'",
        "create table ranked as select id from note limit 5",
        "create index on ranked (peek(id))",
    ):
        assert server.sql(statement, user="the owner") == ""
    run = volume.upgrade()
    assert last_line(run) == 'the data could not be copied: ERROR: relation "note" does not exist'
    assert server.sql("select count(*) from note", user="the app") == str(ROWS)
    assert server.sql(LIMIT) == "-1"
    server.sql("drop table ranked; drop function peek")
    assert volume.upgrade().returncode == 0
    assert server.sql((server.folder / "scripts" / "open.sql").read_text()) == ""


def test_data_that_was_opened_to_the_site_is_never_cleared(server: Server, volume: Volume) -> None:
    assert volume.upgrade().returncode == 0
    volume.server("start")
    assert volume.sql((server.folder / "scripts" / "open.sql").read_text()) == ""
    assert volume.sql("insert into note (text) values ('acknowledged')", user="the owner") == ""
    volume.server("stop")
    (volume.folder / "data" / ".opened").touch()
    said = last_line(volume.upgrade())
    assert re.fullmatch(
        r"storage_claim: the new volume has data that the site has written to since 20\S+ \S+ UTC, and is left alone\. "
        r"If it is of no use any more, delete the file \.opened on it\.",
        said,
    ), said
    volume.server("start")
    assert volume.sql("select count(*) from note where text = 'acknowledged'") == "1"
    volume.server("stop")
    # The old server was not closed for it, and is open as it was.
    assert server.sql((server.folder / "scripts" / "open.sql").read_text()) == ""


def test_what_is_wrong_is_said_before_anybody_has_to_wait(server: Server, volume: Volume) -> None:
    told = last_line(volume.upgrade("-c", "no_such_setting=1"))
    assert told.startswith("the new server does not start with postgres_settings: "), told
    assert "FATAL:" in told
    stranger = volume.folder / "data" / "somebody's"
    (volume.folder / "data" / ".upgrade").unlink()
    stranger.touch()
    run = volume.upgrade()
    assert last_line(run).startswith("storage_claim: the new volume is not empty, and what is on it is left alone")
    assert stranger.exists()
    stranger.unlink()
    # 40 MB are a new server's own, without any data.
    data = volume.folder / "data"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m,mode=0777", "small", data], check=True)
    try:
        said = last_line(volume.upgrade())
    finally:
        # The new server, which was told to end, may still be about it.
        subprocess.run(["umount", "--lazy", data], check=True)
    assert re.fullmatch(r"storage_size: the data takes \d\d MB, and the new volume has \d+ MB free\.", said), said
    assert "the site has to wait" not in run.stdout
    assert server.sql("select count(*) from note", user="the app") == str(ROWS)
