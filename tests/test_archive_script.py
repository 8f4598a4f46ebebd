"""The script of the archive, on a real PostgreSQL server of this machine and with the real pgBackRest."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_backup_scripts import SCRIPTS, SERVERS, as_postgres, last_line, open_folder, pytestmark

__all__ = ["pytestmark"]

DAYS = 7


class Site:
    """A server that archives its log, with its data on a volume of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "volume" / "pgdata"
        self.archives = folder / "backups" / "archive"
        self.variables = {
            "PATH": f"{SERVERS[-1]}:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "TMPDIR": str(folder / "tmp"),
            "PGDATA": str(self.data),
            "SOCKETS": str(folder),
            "BACKUPS": str(folder / "backups"),
            "ARCHIVE_DAYS": str(DAYS),
        }
        for name in ("backups", "tmp", "volume"):
            (folder / name).mkdir()
        shutil.copytree(SCRIPTS, folder / "scripts")
        subprocess.run(["chown", "-R", "postgres:postgres", folder], check=True)
        self.make()

    def program(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program as PostgreSQL's user."""
        return as_postgres(self.folder, self.variables, *command)

    def script(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        return self.program("bash", str(self.folder / "scripts" / "pgbackrest.sh"), *arguments)

    def make(self) -> None:
        """Start on an empty directory."""
        self.program("initdb", "--auth=trust", "--no-sync", "-D", str(self.data))
        self.start()
        self.sql("create table row (text text)")

    def lose(self) -> None:
        """Lose the data, and start anew."""
        self.stop("immediate")
        shutil.rmtree(self.data)
        self.make()

    def start(self, archive_command: str = "") -> None:
        """Start the server, which archives its log."""
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c archive_mode=on"
        options += f" -c archive_command='{archive_command or f'bash {self.folder}/scripts/pgbackrest.sh push %p'}'"
        log = str(self.folder / "log")
        done = self.program("pg_ctl", "-D", str(self.data), "-l", log, "-w", "-o", options, "start")
        assert done.returncode == 0, (self.folder / "log").read_text()

    def stop(self, how: str = "fast") -> None:
        """Stop the server."""
        self.program("pg_ctl", "-D", str(self.data), "-m", how, "-w", "stop")

    def sql(self, sql: str) -> str:
        """What a statement returns, or the error."""
        run = self.program("psql", "-XAtq", "-h", str(self.folder), "-d", "postgres", "-c", sql)
        return (run.stdout + run.stderr).strip()

    def write(self, text: str) -> str:
        """Write a row; return a time after it, with a second around it in which nothing is written."""
        assert self.sql(f"insert into row values ('{text}')") == ""
        time.sleep(1.1)
        moment = self.sql("select to_char(now() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')")
        time.sleep(1.1)
        return moment

    def rows(self) -> list[str]:
        """What was written."""
        return self.sql("select text from row").splitlines()

    def archive_all(self) -> None:
        """All that was written is in the archive."""
        file = self.sql("select pg_walfile_name(pg_switch_wal())")
        for _ in range(100):
            if self.sql(f"select last_archived_wal >= '{file}' from pg_stat_archiver") == "t":
                return
            time.sleep(0.1)
        pytest.fail((self.folder / "log").read_text())

    def identifier(self) -> str:
        """Of the server's data, and of its archive."""
        return self.sql("select system_identifier from pg_control_system()")

    @contextlib.contextmanager
    def keeper(self) -> Iterator[Iterator[str]]:
        """The script that makes the base backups, as it runs beside the server; gives the lines that it prints."""
        script = ["bash", str(self.folder / "scripts" / "pgbackrest.sh"), "keep"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(script, env=self.variables, user="postgres", cwd=self.folder, **pipes)
        try:
            yield iter(process.stdout.readline, "")
        finally:
            process.terminate()
            process.wait()

    def keep(self) -> str:
        """Let the script make its base backup; return what it said."""
        said = ""
        with self.keeper() as lines:
            for line in lines:
                said += line
                if "made a base backup" in line:
                    break
        return said

    def restore(self, moment: str) -> str:
        """Restore to a moment, as the playbook does; return what was said."""
        checked = self.script("check", moment)
        assert checked.returncode == 0, checked.stderr
        self.stop("immediate")
        run = self.script("restore", moment)
        assert run.returncode == 0, run.stdout + run.stderr
        self.start()
        return checked.stdout + run.stdout


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(open_folder(tmp_path_factory, "archive"))
    assert "made a base backup" in made.keep()
    yield made
    made.stop("immediate")


def test_moment_of_this_server(site: Site) -> None:
    first = site.write("first")
    site.write("second")
    site.restore(first)
    assert site.rows() == ["first"]
    # And on from there: what was undone is not there, what came after it is.
    third = site.write("third")
    site.write("fourth")
    site.restore(third)
    assert site.rows() == ["first", "third"]


def test_moment_of_a_server_whose_data_is_lost(site: Site) -> None:
    first = site.write("first")
    last = site.write("last")
    site.archive_all()
    site.lose()
    assert site.rows() == []
    # Whether the new server has a base backup or not.
    said = site.restore(last)
    assert "This moment is in the archive of a server before this one, from 20" in said
    assert "the archive ends before that time: all that it has is restored" in said
    assert site.rows() == ["first", "last"]
    site.lose()
    site.keep()
    site.restore(first)
    assert site.rows() == ["first"]
    listed = site.script("list").stdout
    assert len(re.findall(r'{"archive": {"server": "\d+", "from": "20\S+Z", "to": "20\S+Z"}}', listed)) == 2, listed


def test_server_with_damaged_data(site: Site) -> None:
    """Nothing says any more which archive is its own: the one that was kept until last."""
    site.write("first")
    site.archive_all()
    last = site.write("last")
    site.archive_all()
    site.stop("immediate")
    os.truncate(site.data / "global" / "pg_control", 0)
    assert "The server does not answer: what it has not archived is not restored." in site.restore(last)
    assert site.rows() == ["first", "last"]


def test_hole_in_the_archive_is_no_end(site: Site) -> None:
    """Less than was asked for is given only where there is no more."""
    site.write("first")
    for text in ("second", "third"):
        site.archive_all()
        last = site.write(text)
    site.archive_all()
    files = sorted(path for path in site.archives.rglob("0000*.gz") if path.stem[8:24] > "")
    files[-2].unlink()
    before = site.identifier()
    site.stop()
    run = site.script("restore", last)
    assert last_line(run).startswith(f"to_time: {last}+00 could not be reached, and the data is as it was: "), (
        run.stderr
    )
    site.start()
    assert site.rows() == ["first", "second", "third"]
    assert site.identifier() == before


def test_keeper_goes_on_with_a_server_that_began_anew(site: Site) -> None:
    """On the same volume, with the same pod: only its container was started again."""
    old = site.identifier()
    with site.keeper() as lines:
        assert next(lines) == f"archiving to {site.archives / old}\n"
        site.lose()
        new = site.identifier()
        # It may say in between that the server is not there yet.
        said = "".join(itertools.takewhile(lambda line: "made a base backup" not in line, lines))
    assert f"archiving to {site.archives / new}\nmaking a base backup\n" in said
    assert new != old


@pytest.mark.long
def test_archive_of_a_server_that_is_no_more_is_kept_for_its_days(site: Site) -> None:
    old = site.identifier()
    site.lose()
    assert "deleted" not in site.keep()
    assert (site.archives / old).exists()
    # A new base backup is made a day after the one before, so for this server it is another server's turn.
    site.lose()
    long_ago = time.time() - (DAYS + 1) * 86400
    for path in (site.archives / old).rglob("*"):
        os.utime(path, (long_ago, long_ago))
    said = site.keep()
    assert f"deleted the archive of the server {old}, which ended 20" in said
    assert not (site.archives / old).exists()
    assert len(list(site.archives.iterdir())) == 2


def test_volume_without_room_is_told_before_the_server_is_stopped(site: Site) -> None:
    """What is there is kept aside, so it needs its size twice."""
    moment = site.write("first")
    site.stop()
    aside = site.data.with_name("aside")
    site.data.rename(aside)
    volume = site.data.parent
    megabytes = int(site.program("du", "-sm", str(aside)).stdout.split()[0])
    shutil.move(aside, site.folder / "aside")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes + 20}m,mode=0777", "small", volume], check=True)
    try:
        site.program("cp", "-a", str(site.folder / "aside"), str(site.data))
        site.start()
        said = last_line(site.script("check", moment))
        assert re.match(
            r"storage_size: the data is kept aside .* which takes \d+ MB; the volume has \d+ MB free", said
        ), said
        assert site.rows() == ["first"]
    finally:
        site.stop("immediate")
        subprocess.run(["umount", volume], check=True)


def test_status_tells_whether_the_log_is_archived(site: Site) -> None:
    """What a person would not notice until a restore is wanted."""
    questions = (SCRIPTS.parent / "activity.sql").read_text()
    site.write("first")
    site.archive_all()
    assert re.search(r"archive took the log \d+ s ago", site.sql(questions))
    site.stop()
    site.start(archive_command="false")
    site.write("second")
    site.sql("select pg_switch_wal()")
    for _ in range(100):
        if site.sql("select last_failed_wal is not null from pg_stat_archiver") == "t":
            break
        time.sleep(0.1)
    said = site.sql(questions)
    assert re.search(r"archive has refused the log since 20\S+ \S+ UTC: it piles up beside the data", said), said
