"""The script of the archive, on a real PostgreSQL server of this machine and with the real pgBackRest."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from test_backup_scripts import OTHER, SCRIPTS, SERVERS, SITE, as_postgres, last_line, open_folder, pytestmark

__all__ = ["pytestmark"]

DAYS = 7
ENTRYPOINT = ROOT / "roles/image/files/bases/postgres/docker-entrypoint.sh"


class Site:
    """A server that archives its log, with its data on a volume of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "volume" / "pgdata"
        self.archives = folder / "backups" / "archive" / SITE
        self.variables = {
            "PATH": f"{folder}/bin:{SERVERS[-1]}:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "TMPDIR": str(folder / "tmp"),
            "PGDATA": str(self.data),
            "SOCKETS": str(folder),
            "BACKUPS": str(folder / "backups"),
            "ARCHIVE_DAYS": str(DAYS),
            "SITE_ID": SITE,
            "PG_MAJOR": SERVERS[-1].parent.name,
        }
        for name in ("backups", "bin", "tmp", "volume"):
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
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.data)
        self.make()

    def begin(self, *command: str) -> subprocess.Popen[str]:
        """Start a program as PostgreSQL's user, as the head of a group of processes; its output goes to the log."""
        with (self.folder / "log").open("a") as log:
            place = {"env": self.variables, "cwd": self.folder, "stdout": log, "stderr": subprocess.STDOUT}
            return subprocess.Popen(command, user="postgres", group="postgres", process_group=0, text=True, **place)

    def start(self, archive_command: str = "") -> None:
        """Start the server, which archives its log, as its container does."""
        self.start_soon(archive_command)
        self.wait_for(lambda: self.sql("select 1") == "1")

    def start_soon(self, archive_command: str = "") -> None:
        """Start the server, and do not wait until it answers."""
        options = [f"-cunix_socket_directories={self.folder}", "-clisten_addresses=", "-carchive_mode=on"]
        options.append(f"-carchive_command={archive_command or f'bash {self.folder}/scripts/pgbackrest.sh push %p'}")
        self.server = self.begin(str(ENTRYPOINT), "postgres", *options)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: by SIGINT as Kubernetes does, by SIGQUIT as a power cut would."""
        self.server.send_signal(how)
        self.server.wait()

    def kill(self, script: subprocess.Popen[str]) -> None:
        """End a restore as the end of its pod does: with its recovering server, and the directory of its socket."""
        os.killpg(script.pid, signal.SIGKILL)
        script.wait()
        for place in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                if place.readlink().is_relative_to(self.folder / "volume"):
                    os.kill(int(place.parent.name), signal.SIGKILL)
        for left in self.folder.glob(".s.PGSQL.*"):
            left.unlink()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.1)

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
        self.wait_for(lambda: self.sql(f"select last_archived_wal >= '{file}' from pg_stat_archiver") == "t")

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
        said = ""
        for verb in ("check", "flush", "restore"):
            if verb == "restore":
                self.stop()
            run = self.script(verb, moment)
            assert run.returncode == 0, run.stdout + run.stderr
            said += run.stdout
        self.start()
        return said

    def when_restoring(self, command: str) -> None:
        """Run a command when a restore begins to write."""
        mkdir = self.folder / "bin" / "mkdir"
        mkdir.write_text(f'#!/bin/bash\n/usr/bin/mkdir "$@"\n[[ $* != *.restoring ]] || {{ {command}; }}\n')
        mkdir.chmod(0o755)

    def base_backup(self) -> None:
        """Make one now, as the keeper does once a day."""
        place = {"PGBACKREST_STANZA": "main", "PGBACKREST_PG1_PATH": str(self.data), "PGBACKREST_CONFIG": "/dev/null"}
        place["PGBACKREST_REPO1_PATH"] = str(self.archives / self.identifier())
        place |= {"PGBACKREST_PG1_SOCKET_PATH": str(self.folder), "PGBACKREST_LOG_LEVEL_FILE": "off"}
        place |= {"PGBACKREST_START_FAST": "y", "PGBACKREST_REPO1_RETENTION_FULL": "100"}
        run = as_postgres(self.folder, self.variables | place, "pgbackrest", "backup", "--type=full")
        assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(open_folder(tmp_path_factory, "archive"))
    assert "made a base backup" in made.keep()
    yield made
    made.stop(signal.SIGQUIT)


def test_3_forward_and_back_across_restores(site: Site) -> None:
    first = site.write("first")
    second = site.write("second")
    third = site.write("third")
    site.restore(first)
    assert site.rows() == ["first"]
    # Past the base backup, which is on the timeline before.
    fourth = site.write("fourth")
    site.restore(second)
    assert site.rows() == ["first", "second"]
    assert "made a base backup" in site.keep()
    for moment, rows in {fourth: ["first", "fourth"], third: ["first", "second", "third"]}.items():
        site.restore(moment)
        assert site.rows() == rows
    # What was there before all of it.
    assert (site.data.with_name("pgdata.original") / "PG_VERSION").exists()
    site.stop()
    shutil.rmtree(site.data)
    site.data.with_name("pgdata.original").rename(site.data)
    site.start()
    assert site.rows() == ["first", "second", "third"]


def check_series(site: Site, seed: int, steps: int) -> None:
    """Write rows, make base backups and restore to moments, at random; the rows must be those of the moment."""
    chance = random.Random(seed)
    rows: list[str] = []
    moments = [(site.write("0"), ["0"])]
    rows = ["0"]
    for step in range(1, steps):
        match chance.choice(["write", "write", "restore", "restore", "base"]):
            case "write":
                rows = [*rows, str(step)]
                moments.append((site.write(str(step)), rows))
            case "base":
                site.base_backup()
            case "restore":
                moment, rows = chance.choice(moments)
                site.restore(moment)
                told = f"seed {seed}, step {step}, to {moment}, of {moments}\n{(site.folder / 'log').read_text()}"
                assert site.rows() == rows, told
                time.sleep(1.1)
    before = "2020-01-01 00:00:00"
    said = last_line(site.script("check", before))
    cannot = r"to_time: 2020-01-01 00:00:00 UTC cannot be restored\. "
    assert re.fullmatch(cannot + r"These moments can: 20\S+ \S+ UTC to 20\S+ \S+ UTC\.", said), said


@pytest.mark.long
def test_3_random_series_of_restores(site: Site) -> None:
    check_series(site, seed=1, steps=10)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 8))
def test_long_random_series_of_restores(site: Site, seed: int) -> None:
    check_series(site, seed, steps=30)


@pytest.mark.long
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
    # The first server, the one that began anew, and the first one's data again, on which the server runs now.
    listed = site.script("list").stdout
    servers = re.findall(r'{"archive": {"server": "(\d+)", "from": "20\S+Z", "to": "20\S+Z"}}', listed)
    assert servers[0] == servers[2] == site.identifier() != servers[1], listed


@pytest.mark.long
def test_server_with_damaged_data(site: Site) -> None:
    """Nothing says any more which archive is its own: the one that was kept until last."""
    site.write("first")
    site.archive_all()
    last = site.write("last")
    site.archive_all()
    site.stop(signal.SIGQUIT)
    os.truncate(site.data / "global" / "pg_control", 0)
    assert "The server does not answer: what it has not archived is not restored." in site.restore(last)
    assert site.rows() == ["first", "last"]


@pytest.mark.long
def test_hole_in_the_archive_is_no_end(site: Site) -> None:
    """Less than was asked for is given only where there is no more."""
    site.write("first")
    for text in ("second", "third"):
        site.archive_all()
        last = site.write(text)
    site.archive_all()
    files = sorted(path for path in site.archives.rglob("0000*.zst") if path.stem[8:24] > "")
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


def test_3_restore_from_a_place_that_the_archive_moved_to(site: Site) -> None:
    """After restores in the place before: what came before them is not there, and what came after can be had."""
    site.restore(site.write("first"))
    site.write("second")
    site.stop()
    elsewhere = site.folder / "elsewhere"
    elsewhere.mkdir()
    shutil.chown(elsewhere, "postgres", "postgres")
    site.variables["BACKUPS"] = str(elsewhere)
    shutil.rmtree(site.folder / "tmp")
    (site.folder / "tmp").mkdir()
    shutil.chown(site.folder / "tmp", "postgres", "postgres")
    site.start()
    assert "made a base backup" in site.keep()
    third = site.write("third")
    site.write("fourth")
    site.restore(third)
    assert site.rows() == ["first", "second", "third"]


@pytest.mark.long
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


@pytest.mark.long
def test_9_archive_from_before_sites_had_ids_goes_on(site: Site) -> None:
    """Where it is; another site that shares the place neither sees it nor deletes it from then on."""
    place, old = site.archives.parent, site.identifier()
    first = site.write("first")
    site.archive_all()
    # As the version before left it.
    (site.archives / old).rename(place / old)
    site.archives.rmdir()
    (site.folder / "tmp" / f"archive-{old}").unlink()
    with site.keeper() as lines:
        assert next(lines) == f"archiving to {place / old}\n"
        site.wait_for((place / old / "site-id").exists)
    site.write("second")
    site.archive_all()
    site.restore(first)
    assert site.rows() == ["first"]
    site.variables["SITE_ID"] = OTHER
    assert site.script("list").stdout == ""
    site.variables["SITE_ID"] = SITE
    assert json.loads(site.script("list").stdout)["archive"]["server"] == old
    # The data is lost: the next server's archive is the site's, and the moment of before still there.
    site.lose()
    assert f"archiving to {site.archives / site.identifier()}" in site.keep()
    site.restore(first)
    assert site.rows() == ["first"]


@contextlib.contextmanager
def small_volume(site: Site, megabytes: int) -> Iterator[None]:
    """The server's data is on a volume that has this much room beside it; the server is stopped before and after."""
    site.stop()
    volume = site.data.parent
    used = int(site.program("du", "-sm", str(volume)).stdout.split()[0])
    kept = volume.rename(site.folder / "kept")
    volume.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={used + megabytes}m,mode=0777", "small", volume], check=True)
    try:
        subprocess.run(["cp", "-a", f"{kept}/.", volume], check=True)
        yield
    finally:
        shutil.rmtree(kept)
        subprocess.run(["cp", "-a", volume, kept], check=True)
        subprocess.run(["umount", "--lazy", volume], check=True)
        volume.rmdir()
        kept.rename(volume)


@pytest.mark.long
def test_6_volume_without_room_is_told_before_the_server_is_stopped(site: Site) -> None:
    """What is there is kept until the restored data is, so it needs its size twice."""
    first = site.write("first")
    with small_volume(site, 60):
        site.start()
        said = last_line(site.script("check", first))
        needs = r"storage_size: the data of that moment takes \d+ MB beside the data that is there, "
        assert re.fullmatch(needs + r"and the volume has \d+ MB free\. Make it larger\.", said), said
        assert site.rows() == ["first"]
        site.stop()
    site.start()
    # What earlier restores have kept is named, and counts as room where it is to be deleted.
    site.restore(first)
    with small_volume(site, 80):
        site.start()
        assert re.search(
            r"or delete what was there before the first restore, \d+ MB: -e forget_original=true\.$",
            last_line(site.script("check", first)),
        )
        site.variables["FORGET_ORIGINAL"] = "true"
        site.restore(first)
        assert site.rows() == ["first"]
        site.stop()
    site.start()


def test_archive_that_catches_up_is_waited_for(site: Site) -> None:
    """As after an outage of the bucket: as long as it takes some of the log, and no longer."""
    push, shut = site.folder / "bin" / "slow-push", site.folder / "shut"
    push.write_text(
        f'#!/bin/bash\n[[ ! -e {shut} ]] && sleep 1 && bash {site.folder}/scripts/pgbackrest.sh push "$1"\n'
    )
    push.chmod(0o755)
    site.stop()
    shut.touch()
    site.start(archive_command=f"{push} %p")
    site.variables |= {"STALLED_SECONDS": "5", "LOOK_SECONDS": "1"}
    first = site.write("first")
    for _ in range(8):
        site.sql("insert into row values ('more'); select pg_switch_wal()")
    assert last_line(site.script("flush", first)).startswith("to_time: the archive does not take the log: 0000")
    shut.unlink()
    began = time.monotonic()
    run = site.script("flush", first)
    assert run.returncode == 0, run.stdout + run.stderr
    assert time.monotonic() - began > 8
    assert re.search(r"the archive takes the log: [1-9] files are still to come", run.stdout), run.stdout
    site.archive_all()


def test_refused_restore_deletes_nothing_that_earlier_ones_kept(site: Site) -> None:
    """Also where that is to be deleted: the moment may be another one than was meant."""
    first = site.write("first")
    site.restore(first)
    site.restore(first)
    kept = [site.data.with_name(f"pgdata.{which}") / "PG_VERSION" for which in ("original", "replaced")]
    site.variables["FORGET_ORIGINAL"] = "true"
    site.stop()
    assert "cannot be restored. These moments can: " in last_line(site.script("restore", "2020-01-01 00:00:00"))
    assert [path.exists() for path in kept] == [True, True]
    assert site.script("restore", first).returncode == 0
    # The data that this one replaced is the first that is kept.
    assert [path.exists() for path in kept] == [True, False]
    site.start()
    assert site.rows() == ["first"]


@pytest.mark.long
def test_6_restore_that_fills_the_volume_clears_up(site: Site) -> None:
    first = site.write("first")
    site.write("second")
    with small_volume(site, 300):
        site.start()
        said = site.script("check", first)
        assert said.returncode == 0, said.stderr
        site.script("flush", first)
        site.stop()
        # Somebody else takes the room after it was asked for.
        ballast = site.data.with_name("ballast")
        site.when_restoring(f"fallocate -l 285M {ballast}")
        run = site.script("restore", first)
        assert last_line(run).startswith("to_time: the data could not be restored, and the data is as it was: "), run
        assert last_line(run).endswith("(the volume has 0 MB free)")
        assert not site.data.with_name("pgdata.restoring").exists()
        ballast.unlink()
        site.start()
        assert site.rows() == ["first", "second"]
        site.stop()
    site.start()


@pytest.mark.long
def test_restore_killed_at_any_moment_has_happened_or_not(site: Site) -> None:
    """Whoever starts the server afterwards finds one or the other, and no half; the next restore works."""
    first = site.write("first")
    second = site.write("second")
    chance = random.Random(4)
    for number in range(6):
        site.restore(second) if site.rows() != ["first", "second"] else None
        site.script("flush", first)
        site.stop()
        script = site.begin("bash", str(site.folder / "scripts" / "pgbackrest.sh"), "restore", first)
        time.sleep(chance.uniform(0.5, 6))
        site.kill(script)
        site.start()
        assert site.rows() in (["first"], ["first", "second"]), number
        assert not site.data.with_name("pgdata.restoring").exists()
    for moment, rows in {second: ["first", "second"], first: ["first"]}.items():
        site.restore(moment)
        assert site.rows() == rows


@pytest.mark.long
def test_4_server_and_restore_never_work_on_the_data_together(site: Site) -> None:
    """Whichever of the two comes first."""
    first = site.write("first")
    site.write("second")
    site.script("flush", first)
    flock = site.folder / "bin" / "flock"
    flock.write_text('#!/bin/bash\nexec /usr/bin/flock "${@/#60/2}"\n')
    flock.chmod(0o755)
    said = last_line(site.script("restore", first))
    assert said == "a server or another restore still works on the data: stop it first."
    assert site.rows() == ["first", "second"]
    flock.unlink()

    site.stop()
    site.when_restoring(f"touch {site.folder}/slow; sleep 4")
    script = site.begin("bash", str(site.folder / "scripts" / "pgbackrest.sh"), "restore", first)
    site.wait_for((site.folder / "slow").exists)
    site.start_soon()
    site.wait_for(lambda: "another server or a restore still uses" in (site.folder / "log").read_text())
    assert "could not connect" in site.sql("select 1") or "No such file" in site.sql("select 1")
    assert script.wait() == 0
    site.wait_for(lambda: site.sql("select 1") == "1")
    assert site.rows() == ["first"]


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
