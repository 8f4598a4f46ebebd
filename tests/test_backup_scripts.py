"""The scripts of the backups' Jobs, on a real PostgreSQL server of this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from programs import Bucket, find_go

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
SCRIPTS = ROOT / "roles" / "postgres" / "files" / "backup"
DATABASE = 'the "site"'
ROWS = 20_000
SITE, OTHER = "11111111-aaaa-4aaa-8aaa-111111111111", "22222222-bbbb-4bbb-8bbb-222222222222"

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(os.geteuid() != 0 or not SERVERS, reason="needs root and a PostgreSQL server"),
]


def as_postgres(folder: Path, variables: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program as PostgreSQL's user, in this folder and with these variables alone."""
    program = ["runuser", "-u", "postgres", "--", *command]
    return subprocess.run(program, env=variables, capture_output=True, text=True, check=False, cwd=folder)


def open_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """Make a folder that PostgreSQL's user gets to."""
    folder = factory.mktemp(name)
    open_way(folder)
    return folder


def open_way(folder: Path) -> None:
    """Let PostgreSQL's user get to a folder."""
    for path in (folder, *folder.parents):
        if path.stat().st_uid == 0 and path.stat().st_mode & 0o777 == 0o700:
            path.chmod(0o711)


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"{}"'.format(name.replace('"', '""'))


class Server:
    """A server with one database, its owner and its app, and a volume for its backups."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.backups, self.last = folder, folder / "backups", ""
        self.variables = {
            "PATH": f"{folder}/bin:{SERVERS[-1]}:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "TMPDIR": str(folder / "tmp"),
            "PGHOST": str(folder),
            "PGOPTIONS": "-c client_min_messages=warning",
            "DATABASE": DATABASE,
            "BACKUPS": str(self.backups),
            "KEEP": "3",
            "KEEP_DAYS": "0",
            "KEEP_MINIMUM": "3",
            "SITE_ID": SITE,
            "SIGNING": str(folder / "signing"),
            "KEEP_REPLACED": "true",
            "RELEASE": 'sha-"1"',
            "SCHEDULED": "true",
            "KIND": "manual",
        }
        for name in ("backups", "tmp", "bin", "owner", "admin", "signing", "other-signing"):
            (folder / name).mkdir()
        (folder / "signing" / "key").write_text('"a" $secret')
        (folder / "other-signing" / "key").write_text("another one's")
        for login, user in (("owner", "the owner"), ("admin", "postgres")):
            (folder / login / "user").write_text(user)
            (folder / login / "password").write_text("not asked for over the socket")
        shutil.copytree(SCRIPTS, folder / "scripts")
        subprocess.run(["chown", "-R", "postgres:postgres", folder], check=True)
        self.program("initdb", "--auth=trust", "--no-sync", "--data-checksums", "-D", str(folder / "data"))
        self.start()

    def start(self) -> None:
        """Start the server."""
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off"
        place = ["-D", str(self.folder / "data"), "-l", str(self.folder / "log")]
        self.program("pg_ctl", *place, "-w", "-o", options, "start")

    def program(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program as PostgreSQL's user."""
        return as_postgres(self.folder, self.variables | variables, *command)

    def script(self, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts, with the login that its Job gives it."""
        return self.program("bash", str(self.folder / "scripts" / f"{name}.sh"), **(self.login(name) | variables))

    def login(self, name: str) -> dict[str, str]:
        """The login of a script's Job."""
        if name not in ("restore", "drill"):
            return {"LOGIN": str(self.folder / "owner")}
        return {"LOGIN": str(self.folder / "admin"), "OWNER": str(self.folder / "owner")}

    def sql(self, sql: str, database: str = DATABASE, user: str = "postgres") -> str:
        """What a statement returns, or the error."""
        run = self.program("psql", "-XAtq", "-U", user, "-d", database, "-c", sql)
        return (run.stdout + run.stderr).strip()

    def names(self) -> list[str]:
        """The backups on the volume, oldest first."""
        return sorted(path.name for path in self.backups.iterdir() if not path.name.startswith("."))

    def backup(self) -> str:
        """Make a backup; return its name."""
        return self.backup_to({})

    def backup_to(self, variables: dict[str, str]) -> str:
        """Make a backup, in this bucket too; return its name."""
        self.wait_for_a_name()
        run = self.script("backup", **variables)
        assert run.returncode == 0, run.stdout + run.stderr
        self.last = self.names()[-1]
        return self.last

    def wait_for_a_name(self) -> None:
        """Wait until no backup was made in this second: names are to the second."""
        made = {name.partition("-")[0] for name in (self.last, *self.names())}
        while time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) in made:
            time.sleep(0.05)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(open_folder(tmp_path_factory, "server"))
    server.sql('create role "the owner" login; create role "the app" login', "postgres")
    # As the role has it: nobody but a superuser gets into them.
    server.sql("revoke connect on database postgres, template1 from public", "postgres")
    yield server
    server.program("pg_ctl", "-D", str(server.folder / "data"), "-m", "immediate", "stop")


@pytest.fixture
def server(running: Server) -> Server:
    """The server with a fresh database and an empty volume."""
    for path in running.backups.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in running.sql("select datname from pg_database where datname like 'the %'", "postgres").splitlines():
        running.sql(f"drop database {quoted(name)} with (force)", "postgres")
    running.sql('create database "the ""site""" owner "the owner"', "postgres")
    for statement in (
        'revoke all on database "the ""site""" from public',
        'grant connect, temporary on database "the ""site""" to "the app"',
        'alter database "the ""site""" set work_mem = \'7MB\'',
        'alter default privileges for role "the owner" grant select on tables to "the app"',
    ):
        assert running.sql(statement) == ""
    for statement in (
        "create table note (id serial primary key, text text)",
        f"insert into note (text) select md5(i::text) from generate_series(1, {ROWS}) i",
        "create table django_migrations (id serial, app text, name text)",
        "insert into django_migrations (app, name) values ('notes', '0001_initial'), ('notes', '0002_more')",
    ):
        assert running.sql(statement, user="the owner") == ""
    return running


CHECKSUM = "select count(*), md5(string_agg(text, '' order by id)) from note"


def last_line(run: subprocess.CompletedProcess[str]) -> str:
    """What a playbook shows as the cause."""
    assert run.returncode == 1, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    return run.stderr.strip().splitlines()[-1]


def test_backup_tells_what_it_is(server: Server) -> None:
    name = server.backup()
    told = json.loads((server.backups / name / "backup.json").read_text())
    dump = server.backups / name / "database.dump"
    assert told["name"] == name
    assert told["name"].endswith("-manual")
    assert told["size_bytes"] == dump.stat().st_size > 1000
    assert subprocess.run(["sha256sum", dump], capture_output=True, text=True).stdout.split()[0] == told["sha256"]
    assert told["site_id"] == SITE
    assert told["system_identifier"] == server.sql("select system_identifier from pg_control_system()")
    assert (told["database"], told["release"], told["migration"]) == (DATABASE, 'sha-"1"', "notes.0002_more")
    comment = server.sql("select shobj_description(oid, 'pg_database') from pg_database where datname like 'the %'")
    noted = json.loads(comment)["kubernetes_django"]["backup"]
    assert (noted["name"], noted["size_bytes"], noted["scheduled"]) == (name, told["size_bytes"], True)
    listed = [json.loads(line) for line in server.script("list").stdout.splitlines()]
    assert listed[0] == {"backup": told, "places": ["volume"]}
    assert listed[1]["volume"]["size_bytes"] > 0


def test_restore_brings_rows_rights_and_settings_back(server: Server) -> None:
    before = server.sql(CHECKSUM)
    rights = "select datacl, datdba::regrole from pg_database where datname like 'the %site\"'"
    rights_before = server.sql(rights)
    name = server.backup()
    server.sql("delete from note where id % 2 = 0; create table later ()")
    run = server.script("restore", RESTORE="latest")
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(CHECKSUM) == before
    assert server.sql("select to_regclass('later') is null") == "t"
    assert server.sql(rights) == rights_before
    assert server.sql("show work_mem") == "7MB"
    assert server.sql("select count(*) from note", user="the app") == str(ROWS)
    assert "permission denied" in server.sql("delete from note", user="the app")
    assert server.sql("select reltuples from pg_class where relname = 'note'") == str(ROWS)
    # What was there before is a backup and a database that lets nobody in.
    # Both may be of the same second.
    (other,) = set(server.names()) - {name}
    assert other.endswith("-before-restore")
    assert "not currently accepting connections" in server.sql("select 1", f"{DATABASE}_replaced")
    # `latest` is still the same one, so that a second run does the same again.
    assert server.script("restore", RESTORE="latest").returncode == 0
    assert server.sql(CHECKSUM) == before
    undo = other
    assert server.script("restore", RESTORE=undo, KEEP_REPLACED="false").returncode == 0
    assert server.sql("select count(*) from note") == str(ROWS // 2)
    assert "does not exist" in server.sql("select 1", f"{DATABASE}_replaced")


SETTINGS = """
select setrole::regrole, unnest(setconfig) from pg_db_role_setting join pg_database on oid = setdatabase
where datname like 'the %site"' order by 1, 2
"""
COMMENT = "select shobj_description(oid, 'pg_database') from pg_database where datname like 'the %site\"'"
RIGHTS = "select datacl, datdba, datconnlimit from pg_database where datname like 'the %site\"'"


def test_rights_and_settings_survive_a_restore_unchanged(server: Server) -> None:
    database = '"the ""site"""'
    for statement in (
        f"""alter database {database} set search_path to "$user", public, "My, Schema" """,
        f"alter database {database} set datestyle to 'ISO, DMY'",
        f"alter database {database} set session_preload_libraries to 'auto_explain', 'pg_stat_statements'",
        f"alter database {database} set site.motto to 'it''s, \"so\"'",
        f"alter role \"the app\" in database {database} set search_path to ''",
        f'alter role "the app" in database {database} set statement_timeout to 5000',
        f'grant connect on database {database} to "the app" with grant option',
        f'revoke temporary on database {database} from "the owner"',
        f"alter database {database} connection limit 17",
        f"comment on database {database} is 'precious'",
    ):
        assert server.sql(statement) == ""
    before = server.sql(SETTINGS), sorted(server.sql(RIGHTS)), server.sql("show search_path")
    name = server.backup()
    run = server.script("restore", RESTORE=name)
    assert run.returncode == 0, run.stdout + run.stderr
    assert (server.sql(SETTINGS), sorted(server.sql(RIGHTS)), server.sql("show search_path")) == before
    assert before[2] == '"$user", public, "My, Schema"'
    assert server.sql(COMMENT) == "precious"


def test_locale_of_the_database_survives_a_restore(server: Server) -> None:
    """One that is sorted by ICU."""
    server.sql('drop database "the ""site""" with (force)', "postgres")
    options = "owner \"the owner\" template template0 locale_provider icu icu_locale 'de-u-kn-true'"
    assert server.sql(f'create database "the ""site""" {options}', "postgres") == ""
    server.sql("create table note as select 1 as id, 'x' as text", user="the owner")
    provider = "select datlocprovider, daticulocale from pg_database where datname = current_database()"
    before = server.sql(provider)
    assert before == "i|de-u-kn-true"
    run = server.script("restore", RESTORE=server.backup())
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(provider) == before


def test_error_of_sql_is_final(server: Server) -> None:
    """Whatever code a script ends with: Kubernetes runs only that once more whose pod was killed."""
    spec = yaml.safe_load((ROOT / "roles" / "postgres" / "vars" / "main.yml").read_text())["__postgres_backup_job_spec"]
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule == {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [128 + 9, 128 + 15]}}
    before = server.sql(CHECKSUM)
    name = server.backup()
    path = server.backups / name / "backup.json"
    told = json.loads(path.read_text())
    told["settings"].append({"role": None, "name": "no_such_setting", "value": "1"})
    path.write_text(json.dumps(told))
    run = server.script("restore", RESTORE=name, UNSIGNED="true")
    assert run.returncode == 3
    assert run.stderr.strip().splitlines()[-1].endswith('unrecognized configuration parameter "no_such_setting"')
    assert server.sql(CHECKSUM) == before
    assert "does not exist" in server.sql("select 1", f"{DATABASE}_restoring")


def damage_a_page(server: Server) -> None:
    """As a bad disk does: the first page of a table is of no use."""
    file = server.sql("select pg_relation_filepath('note')")
    server.sql("checkpoint")
    server.program("pg_ctl", "-D", str(server.folder / "data"), "-m", "fast", "-w", "stop")
    with (server.folder / "data" / file).open("r+b") as table:
        table.seek(8)
        table.write(b"\xff" * 64)
    server.start()


@pytest.mark.parametrize("trouble", ["dropped schema", "damaged page", "full volume"])
def test_7_restore_works_when_it_is_needed_most(server: Server, tmp_path: Path, trouble: str) -> None:
    """What cannot be backed up before is kept as a database of its own, which the next restore does not delete."""
    before = server.sql(CHECKSUM)
    name = server.backup()
    backups, full = server.backups, tmp_path / "full"
    match trouble:
        case "dropped schema":
            server.sql('drop schema public cascade; create schema public authorization "the owner"')
        case "damaged page":
            damage_a_page(server)
            assert "invalid page" in server.sql("select count(*) from note")
        case "full volume":
            full.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0777", "full", full], check=True)
            subprocess.run(["cp", "-a", backups / name, full], check=True)
            open_way(full)
            subprocess.run(["dd", "if=/dev/zero", f"of={full}/ballast"], check=False, capture_output=True)
            server.sql("delete from note where id <= 100", user="the owner")
            backups = full
    try:
        run = server.script("restore", RESTORE=name, BACKUPS=str(backups))
    finally:
        if trouble == "full volume":
            subprocess.run(["umount", full], check=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(CHECKSUM) == before
    assert server.sql("select count(*) from note", user="the app") == str(ROWS)
    kept = server.sql("select datname from pg_database where datname like 'the %kept%'", "postgres")
    assert f"what is there cannot be backed up: it is kept as the database {kept} instead" in run.stdout
    # The next restore has a good database to back up.
    assert server.script("restore", RESTORE=name).returncode == 0
    assert "not currently accepting connections" in server.sql("select 1", kept)
    opened = server.sql(f"alter database {quoted(kept)} allow_connections true", "postgres")
    assert opened == ""
    rows = {"dropped schema": 'relation "note" does not exist', "damaged page": "invalid page", "full volume": "19900"}
    assert rows[trouble] in server.sql("select count(*) from note", kept)


def test_closed_database_is_restored_and_open(server: Server) -> None:
    """As an upgrade that was killed leaves it, and a restore."""
    database = '"the ""site"""'
    before = server.sql(CHECKSUM)
    name = server.backup()
    server.sql(f"alter database {database} set kubernetes_django.connection_limit = '7'", "postgres")
    server.sql(f"alter database {database} connection limit 0", "postgres")
    assert "too many connections" in server.sql("select 1", user="the app")
    server.sql(f"alter database {database} allow_connections false", "postgres")
    run = server.script("restore", RESTORE=name)
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(CHECKSUM) == before
    assert server.sql("select count(*) from note", user="the app") == str(ROWS)
    (closed,) = set(server.names()) - {name}
    assert server.script("restore", RESTORE=closed).returncode == 0
    assert server.sql("select datconnlimit from pg_database where datname = current_database()") == "7"
    assert "kubernetes_django.connection_limit" not in server.sql(SETTINGS)


def test_restore_of_a_database_that_is_gone(server: Server) -> None:
    before = server.sql(CHECKSUM)
    server.backup()
    server.sql('drop database "the ""site""" with (force)', "postgres")
    run = server.script("restore", RESTORE="latest")
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(CHECKSUM) == before
    assert server.sql("select count(*) from note", user="the app") == str(ROWS)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            '"$real" "$@"; for f; do case $f in --file=*) truncate -s -200 "${f#--file=}"; esac; done',
            "damaged or cut off",
        ),
        ('for f; do case $f in --file=*) : > "${f#--file=}"; esac; done', "the dump is empty."),
        ('"$real" "$@"; exit 1', "the dump failed"),
        ('"$real" --schema-only "$@"', "the dump holds no table"),
    ],
)
def test_bad_dump_fails_and_is_not_kept(server: Server, program: str, message: str) -> None:
    good = server.backup()
    broken = server.folder / "bin" / "pg_dump"
    as_ever = '[[ $1 != --version ]] || exec "$real" "$1"'
    broken.write_text(f"#!/bin/bash\nreal={SERVERS[-1]}/pg_dump\n{as_ever}\n{program}\n")
    broken.chmod(0o755)
    try:
        assert message in last_line(server.script("backup"))
    finally:
        broken.unlink()
    assert server.names() == [good]
    assert not list(server.backups.glob(".*.part"))


@pytest.mark.parametrize("spoil", ["truncate", "flip", "version", "dump gone"])
def test_bad_backup_is_refused_and_nothing_is_touched(server: Server, spoil: str) -> None:
    name = server.backup()
    dump, told = server.backups / name / "database.dump", server.backups / name / "backup.json"
    match spoil:
        case "truncate":
            os.truncate(dump, dump.stat().st_size // 2)
            message = f"backup: {name} is not what it was: its checksum is"
        case "flip":
            dump.write_bytes(dump.read_bytes()[:-1] + b"?")
            message = f"backup: {name} is not what it was: its checksum is"
        case "version":
            told.write_text(json.dumps(json.loads(told.read_text()) | {"server_version": "99.1"}))
            message = f"backup: {name} was made by PostgreSQL 99, and the server is PostgreSQL"
        case "dump gone":
            dump.unlink()
            message = f"backup: {name} has lost its database.dump"
    for script in ("restore", "drill"):
        assert message in last_line(server.script(script, RESTORE=name, UNSIGNED="true"))
    assert server.names() == [name]
    assert server.sql(CHECKSUM).startswith(str(ROWS))


def test_server_newer_than_the_programs_is_told(server: Server) -> None:
    """As one elsewhere may be."""
    older = server.folder / "bin" / "pg_dump"
    older.write_text("#!/bin/bash\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    older.chmod(0o755)
    try:
        said = last_line(server.script("backup"))
    finally:
        older.unlink()
    major = SERVERS[-1].parent.name
    assert said.startswith(
        "image_postgres_major: the programs that make a backup are PostgreSQL 9's, and the server at"
    )
    assert said.endswith(f"is {major}: set it to {major}.")
    assert server.names() == []


def test_unknown_backup_is_refused_with_those_there_are(server: Server) -> None:
    assert "there is no backup yet" in last_line(server.script("restore", RESTORE="latest"))
    name = server.backup()
    said = last_line(server.script("restore", RESTORE="20200101T000000Z-manual"))
    assert said == f"backup: there is no backup 20200101T000000Z-manual. There are: {name}"
    assert server.names() == [name]


def test_failing_restore_leaves_the_data(server: Server) -> None:
    """The backup is a good one, and a role that it gives rights to is not there any more."""
    server.sql("create role departed; grant select on note to departed")
    name = server.backup()
    server.sql("drop owned by departed; drop role departed")
    before = server.sql(CHECKSUM)
    said = last_line(server.script("restore", RESTORE=name))
    assert f"the backup {name} could not be restored, and the data is as it was" in said
    assert 'role "departed" does not exist' in said
    assert server.sql(CHECKSUM) == before
    assert server.sql("select count(*) from note", user="the app") == str(ROWS)
    assert "does not exist" in server.sql("select 1", f"{DATABASE}_restoring")


def test_restore_passes_over_roles_that_are_gone(server: Server) -> None:
    """Their rights on the database itself and their settings are in the backup as well."""
    database = '"the ""site"""'
    server.sql(f"create role gone; grant connect on database {database} to gone", "postgres")
    server.sql(f"alter role gone in database {database} set work_mem = '9MB'", "postgres")
    name = server.backup()
    assert server.sql("drop owned by gone; drop role gone") == ""
    run = server.script("restore", RESTORE=name)
    assert run.returncode == 0, run.stdout + run.stderr


def test_13_what_a_backup_has_is_the_owners(server: Server) -> None:
    """Also what belonged to a role that is gone."""
    before = server.sql(CHECKSUM)
    server.sql('create role departed; alter table note owner to departed; grant departed to "the owner"')
    name = server.backup()
    assert server.sql('reassign owned by departed to "the owner"; drop role departed') == ""
    run = server.script("restore", RESTORE=name)
    assert run.returncode == 0, run.stdout + run.stderr
    owner = server.sql("select tableowner from pg_tables where tablename = 'note'")
    assert (owner, server.sql(CHECKSUM)) == ("the owner", before)


def test_default_privileges_of_others_do_not_stop_a_restore(server: Server) -> None:
    """Nobody but a superuser can set them, and a superuser runs nothing that a dump says."""
    before = server.sql(CHECKSUM)
    assert server.sql('alter default privileges for role postgres grant select on tables to "the app"') == ""
    server.backup()
    run = server.script("restore", RESTORE="latest")
    assert run.returncode == 0, run.stdout + run.stderr
    left = "left out, for they are not the owner's: DEFAULT ACL - DEFAULT PRIVILEGES FOR TABLES postgres"
    assert left in run.stdout.splitlines()
    assert server.sql(CHECKSUM) == before
    assert server.sql("select count(*) from note", user="the app") == str(ROWS)


def test_11_restore_says_how_long_it_takes_and_how_far_it_is(server: Server) -> None:
    assert server.sql(f"insert into note (text) select md5(i::text) from generate_series(1, {50 * ROWS}) i") == ""
    server.backup()
    run = server.script("restore", RESTORE="latest")
    waits = r"^the site has to wait, about \d+ s for 1\d\d MB"
    assert re.search(waits + ", which no drill has measured here$", run.stdout, re.M)
    assert server.script("drill").returncode == 0
    run = server.script("restore", RESTORE="latest", LOOK_SECONDS="0.1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(waits + " at the rate of the last drill$", run.stdout, re.M)
    shares = [int(each) for each in re.findall(r"^(\d+) % after", run.stdout.partition("has to wait")[2], re.M)]
    assert shares == sorted(set(shares))
    assert len(shares) > 2


def test_11_restore_that_takes_too_long_is_undone(server: Server) -> None:
    for statement in (
        "create table slow (id int check (pg_sleep(0.05) is not null))",
        "insert into slow select generate_series(1, 100)",
    ):
        assert server.sql(statement, user="the owner") == ""
    before = server.sql(CHECKSUM)
    server.backup()
    said = last_line(server.script("restore", RESTORE="latest", LOOK_SECONDS="0.1", DEADLINE="1"))
    assert re.fullmatch(r"postgres_backup_deadline: \d+ MB were not done after 1 s\.", said), said
    assert server.sql(CHECKSUM) == before
    assert server.sql("select count(*) from note", user="the app") == str(ROWS)
    assert server.sql("select count(*) from pg_database where datname like '%restoring'") == "0"


@pytest.fixture
def hostile(server: Server) -> Iterator[Server]:
    """A database whose owner knows that a dump of it will be loaded, and files by which a stolen right is seen."""
    (server.folder / "stolen").unlink(missing_ok=True)
    yield server
    server.sql('alter role "the app" nosuperuser; drop event trigger if exists theirs')


def is_unharmed(server: Server) -> bool:
    """Whether nobody became a superuser, and no program ran."""
    rights = server.sql("select rolsuper from pg_roles where rolname in ('the app', 'the owner')", "postgres")
    return rights == "f\nf" and not (server.folder / "stolen").exists()


STEAL = {
    "role": 'alter role "the app" superuser',
    "session": 'reset session authorization; alter role "the app" superuser',
    "program": "copy pg_class (relname) to program 'touch {folder}/stolen'",
}


@pytest.mark.parametrize("how", STEAL)
@pytest.mark.parametrize("quiet", [True, False])
def test_13_hostile_dump_gains_nothing(hostile: Server, how: str, *, quiet: bool) -> None:
    """A function that a table calls for each row that is loaded. It hides its failure, or does not."""
    server = hostile
    steal = STEAL[how].format(folder=server.folder)
    hide = "exception when others then return true;" if quiet else ""
    statements = "; ".join(f"execute $x${each}$x$" for each in steal.split("; "))
    body = f"begin if current_database() ~ '_' then {statements}; end if; return true; {hide} end"
    function = f"create function public.check_it(text) returns boolean language plpgsql as $f${body}$f$"
    assert server.sql(function, user="the owner") == ""
    assert server.sql("alter table note add check (public.check_it(text))", user="the owner") == ""
    before = server.sql(CHECKSUM)
    server.backup()
    for script in ("drill", "restore"):
        run = server.script(script, RESTORE="latest")
        assert is_unharmed(server)
        if quiet:
            assert run.returncode == 0, run.stdout + run.stderr
            continue
        said = last_line(run)
        assert "could not be restored, and the data is as it was: pg_restore: error: " in said
        assert "permission denied" in said or "must be superuser" in run.stderr
        assert server.sql(CHECKSUM) == before


def test_13_hostile_dump_of_an_event_trigger_is_refused(hostile: Server) -> None:
    server = hostile
    server.sql("create function theirs() returns event_trigger language plpgsql as 'begin end'", user="the owner")
    assert server.sql("create event trigger theirs on ddl_command_start execute function theirs()") == ""
    name = server.backup()
    server.sql("drop event trigger theirs")
    for script in ("drill", "restore"):
        said = last_line(server.script(script, RESTORE=name))
        assert said.startswith(f"the backup {name} could not be restored, and the data is as it was: ")
        assert 'permission denied to create event trigger "theirs"' in said


def hostile_words(evil: str) -> dict[str, object]:
    """What a stranger could write into backup.json, with the SQL that is to be run by the way."""
    rights = [
        {"role": "public", "right": f'CONNECT on database postgres to "the app"; {evil}; --', "grantable": False},
        {"role": f'"the app"; {evil}', "right": "CONNECT", "grantable": False},
        {"role": '"the app"', "right": "CONNECT", "grantable": False},
    ]
    settings = [
        {"role": "postgres", "name": "search_path", "value": "theirs"},
        {"role": None, "name": "session_preload_libraries", "value": "auto_explain"},
        {"role": None, "name": f"work_mem to 1; {evil}; --", "value": "1"},
    ]
    return {"owner": "postgres", "rights": rights, "settings": settings}


def test_13_hostile_backup_json_gains_nothing(hostile: Server) -> None:
    """Rights, settings and limits become SQL of the superuser."""
    server = hostile
    name = server.backup()
    path = server.backups / name / "backup.json"
    good = json.loads(path.read_text())
    evil = 'alter role "the app" superuser'
    for change in (
        {"connection_limit": f"-1; {evil}"},
        {"settings": [{"role": None, "name": "kubernetes_django.connection_limit", "value": f"-1; {evil}"}]},
    ):
        path.write_text(json.dumps(good | change))
        run = server.script("restore", RESTORE=name, UNSIGNED="true")
        assert "invalid input syntax for type integer" in run.stderr
        assert is_unharmed(server)
    path.write_text(json.dumps(good | hostile_words(evil)))
    told = json.loads(path.read_text())
    for place, said in (("rights", "invalid name syntax"), ("settings", "configuration parameter")):
        run = server.script("restore", RESTORE=name, UNSIGNED="true")
        assert said in run.stderr
        assert is_unharmed(server)
        del told[place][-2 if place == "rights" else -1]
        path.write_text(json.dumps(told))
    run = server.script("restore", RESTORE=name, UNSIGNED="true")
    assert run.returncode == 0, run.stdout + run.stderr
    assert is_unharmed(server)
    assert server.sql(SETTINGS) == ""
    assert server.sql("select datdba::regrole from pg_database where datname = current_database()") == '"the owner"'


SIGNED_BY_NOBODY = "neither this site's nor of one in postgres_backup_trusted_keys, or its backup.json was altered."


@pytest.mark.parametrize("spoil", ["altered", "other dump", "other key", "renamed", "no signature", "no key"])
def test_13_unsigned_or_altered_backup_is_refused(server: Server, spoil: str) -> None:
    """The checksum alone lies beside the dump: whoever writes there writes both."""
    before = server.sql(CHECKSUM)
    name = server.backup_to(
        {"other key": {"SIGNING": str(server.folder / "other-signing")}, "no key": {"SIGNING": ""}}.get(spoil, {})
    )
    place = server.backups / name
    path, message = place / "backup.json", SIGNED_BY_NOBODY
    told = json.loads(path.read_text())
    match spoil:
        case "altered":
            path.write_text(json.dumps(told | {"release": "other"}))
        case "other dump":
            with (place / "database.dump").open("ab") as dump:
                dump.write(b"more")
            sha = subprocess.run(["sha256sum", dump.name], capture_output=True, text=True).stdout.split()[0]
            path.write_text(json.dumps(told | {"sha256": sha}))
        case "renamed":
            # An old one in the place of the latest.
            (name,) = days("manual", -1)
            place.rename(server.backups / name)
            message = f"{name} is the backup {told['name']} under another name."
        case "no signature":
            (place / "backup.json.sig").unlink()
    if spoil.startswith("no "):
        message = (
            f"backup: {name} is not signed. If you trust it, as one that was made before backups were signed, say -e "
        )
        message += "postgres_backup_unsigned=true."
    for script in ("restore", "drill"):
        said = last_line(server.script(script, RESTORE="latest"))
        assert said.startswith("backup: ")
        assert message in said
    assert server.names() == [name]
    if spoil != "other dump":
        assert server.script("restore", RESTORE="latest", UNSIGNED="true").returncode == 0
    assert server.sql(CHECKSUM) == before


def test_13_backup_of_a_site_that_is_trusted(server: Server) -> None:
    run = server.script("backup", SITE_ID=OTHER, SIGNING=str(server.folder / "other-signing"))
    (key,) = re.findall("signed it; the public key of this site is (MCowBQYDK2VwAyEA.{43}=)", run.stdout)
    (name,) = server.names()
    assert SIGNED_BY_NOBODY in last_line(server.script("restore", RESTORE=name))
    run = server.script("restore", RESTORE=name, TRUSTED=f"MCowBQYDK2VwAyEA{'A' * 43}=,{key}")
    assert run.returncode == 0, run.stdout + run.stderr
    # The key itself is in no file of a backup.
    text = b"".join(path.read_bytes() for path in server.backups.rglob("*") if path.is_file())
    assert b"another one's" not in text
    assert not (server.folder / "tmp" / "signing.pem").exists()


def test_13_extensions_are_the_superusers_to_make(server: Server) -> None:
    """Those that are wanted, those that the database has, and those that PostgreSQL trusts its owner with."""
    assert server.sql('create schema tools authorization "the owner"') == ""
    assert server.sql("create extension pg_stat_statements schema tools; create extension pg_trgm") == ""
    name = server.backup()
    assert server.script("restore", RESTORE=name, EXTENSIONS="").returncode == 0
    extensions = (
        "select string_agg(extname || ' ' || extnamespace::regnamespace, ', ' order by extname) from pg_extension"
    )
    before = "pg_stat_statements tools, pg_trgm public, plpgsql pg_catalog"
    assert server.sql(extensions) == before
    server.sql("drop extension pg_stat_statements; drop extension pg_trgm")
    for script in ("drill", "restore"):
        said = last_line(server.script(script, RESTORE=name, EXTENSIONS="pg_trgm"))
        assert said == (
            f"postgres_extensions: the backup {name} needs pg_stat_statements, which only a superuser may make. If "
            "that is what you want, add it there. The data is as it was."
        )
    run = server.script("restore", RESTORE=name, EXTENSIONS="hstore,pg_stat_statements")
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(extensions) == before


@pytest.fixture
def extension() -> Iterator[str]:
    """An extension with a table of terms to which people add their own, as PostGIS has one of reference systems."""
    folder = Path("/usr/share/postgresql", SERVERS[-1].parent.name, "extension")
    files = {
        "terms_of_a_test.control": "default_version = '1'\n",
        "terms_of_a_test--1.sql": "create table terms (word text); grant select on terms to public;"
        "select pg_catalog.pg_extension_config_dump('terms', $$where word <> 'its own'$$);"
        "insert into terms values ('its own');",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    yield "terms_of_a_test"
    for name in files:
        (folder / name).unlink()


def test_13_rows_in_a_table_of_an_extension_survive(server: Server, extension: str) -> None:
    """The owner loads them, and has no more rights there afterwards than before."""
    assert server.sql(f"create extension {extension}; insert into terms values ('ours')") == ""
    rights = "select relacl from pg_class where relname = 'terms'"
    before = server.sql(rights)
    server.backup()
    run = server.script("restore", RESTORE="latest")
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql("select string_agg(word, ', ' order by word) from terms") == "its own, ours"
    assert server.sql(rights) == before
    assert "permission denied" in server.sql("insert into terms values ('no')", user="the owner")


@pytest.fixture
def owner(server: Server) -> Iterator[dict[str, str]]:
    """The login of a site that has no superuser; the rights that a test gives its owner are taken back."""
    server.sql('grant connect on database postgres to "the owner"')
    yield {"LOGIN": str(server.folder / "owner"), "OWNER": ""}
    server.sql('ALTER ROLE "the owner" NOCREATEDB; REVOKE pg_signal_backend FROM "the owner"')
    server.sql('revoke connect on database postgres from "the owner"')


def test_restore_by_the_owner_needs_two_rights(server: Server, owner: dict[str, str]) -> None:
    """As for a server that has no superuser for us: what is missing is named, and nothing is changed."""
    before = server.sql(CHECKSUM)
    name = server.backup()
    server.sql("delete from note where id <= 100")
    create, signal_ = 'ALTER ROLE "the owner" CREATEDB;', 'GRANT pg_signal_backend TO "the owner";'
    said = last_line(server.script("restore", RESTORE=name, **owner))
    assert said.startswith("the owner lacks rights for a restore at")
    assert said.endswith(f"As the administrator run there: {create} {signal_}")
    assert last_line(server.script("drill", **owner)).endswith(f"run there: {create}")
    assert server.names() == [name]
    server.sql(create + signal_)
    for script in ("drill", "restore"):
        run = server.script(script, RESTORE=name, **owner)
        assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(CHECKSUM) == before


def test_restore_by_the_owner_beside_autovacuum(server: Server, owner: dict[str, str]) -> None:
    """Which runs as nobody: only a superuser may end it."""
    before = server.sql(CHECKSUM)
    name = server.backup()
    slow = "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_scale_factor = 0"
    busy = "select count(*) from pg_stat_activity where backend_type = 'autovacuum worker' and datname like 'the %'"
    server.sql('ALTER ROLE "the owner" CREATEDB; GRANT pg_signal_backend TO "the owner"')
    server.sql("alter system set autovacuum_naptime = 1")
    server.sql(f"select pg_reload_conf(); alter table note set ({slow}, autovacuum_vacuum_threshold = 1)")
    try:
        server.sql("delete from note where id <= 100")
        end = time.monotonic() + 30
        while server.sql(busy) == "0":
            assert time.monotonic() < end, "autovacuum has come"
            time.sleep(0.1)
        run = server.script("restore", RESTORE=name, **owner)
        assert run.returncode == 0, run.stdout + run.stderr
        assert server.sql(CHECKSUM) == before
    finally:
        server.sql("alter system reset autovacuum_naptime")
        server.sql("select pg_reload_conf()")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_restore_ended_at_any_moment_converges(server: Server, how: int) -> None:
    before = server.sql(CHECKSUM)
    name = server.backup()
    server.sql("delete from note where id <= 100")
    # Not earlier: while bash reads the script, no trap of it can be relied on, and nothing is done yet.
    for pause in (0.3, 0.5, 0.8, 1.3):
        # Not runuser, which kills what does not end within two seconds of a SIGTERM.
        command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "bash"]
        command += [str(server.folder / "scripts" / "restore.sh")]
        variables = server.variables | server.login("restore") | {"RESTORE": name}
        script = subprocess.Popen(
            command, env=variables, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(pause)
        # In a container a signal goes to process 1 alone; with that one everything in it is killed.
        (os.kill if how == signal.SIGTERM else os.killpg)(script.pid, how)
        script.wait()
        if how == signal.SIGTERM:
            # The one code after which the Job tries again; 0 where it had come to its end.
            assert script.returncode in (0, 143)
            assert server.sql("select count(*) > 0 from note", user="the app") == "t"
    run = server.script("restore", RESTORE=name)
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(CHECKSUM) == before
    assert server.sql("select count(*) from pg_database where datname like 'the %restoring'") == "0"


@pytest.mark.parametrize("keep", ["true", "false"])
def test_restore_that_its_job_repeats_leaves_what_was_written_since(server: Server, keep: str) -> None:
    """As after a pod that was killed when the new database had taken the place; also with somebody's own comment."""
    server.sql(f"comment on database {quoted(DATABASE)} is 'precious'")
    name = server.backup()
    mine = {"RESTORE": name, "RUN": "11111111-0000", "KEEP_REPLACED": keep}
    # Killed before the last of it: where the backups are listed again.
    hook = server.folder / "scripts" / "restore.sh"
    whole = hook.read_text()
    hook.write_text(whole.replace("\nlatest=$(names", "\nkill -KILL $$\nlatest=$(names"))
    try:
        assert server.script("restore", **mine).returncode != 0
    finally:
        hook.write_text(whole)
    server.sql("insert into note (text) values ('since')", user="the owner")
    run = server.script("restore", **mine)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == (
        f"a pod of this Job that was killed has restored the database {DATABASE} already: it stays as it is"
    )
    since = "select count(*) from note where text = 'since'"
    assert server.sql(since, user="the owner") == "1"
    left = server.sql("select count(*) from pg_database where datname like 'the %replaced'", "postgres")
    assert left == ("1" if keep == "true" else "0")
    # Another Job restores.
    run = server.script("restore", **(mine | {"RUN": "22222222-0000"}))
    assert run.returncode == 0, run.stderr
    assert server.sql(since, user="the owner") == "0"


def test_restore_says_what_is_in_no_copy(server: Server) -> None:
    """What is written while the backup before it is made."""
    name = server.backup()
    for keep, said in {
        "true": f"what it held when it was closed is the database {DATABASE}_replaced, until the next restore",
        "false": r"what was written in those \d+ s is in no copy: postgres_restore_keep_replaced is false",
    }.items():
        time.sleep(1)
        run = server.script("restore", RESTORE=name, KEEP_REPLACED=keep)
        assert re.search(
            rf"what it held \d+ s before it was closed is the backup \S+-before-restore\n{said}$", run.stdout.strip()
        )


def test_nobody_gets_in_during_a_restore(server: Server) -> None:
    """Its sessions are ended, and it is refused until the new database is complete."""
    name = server.backup()
    slow = server.folder / "bin" / "pg_restore"
    slow.write_text(f'#!/bin/bash\n[[ "$*" != *--jobs* ]] || sleep 1.5\nexec {SERVERS[-1]}/pg_restore "$@"\n')
    slow.chmod(0o755)
    session = subprocess.Popen(
        ["runuser", "-u", "postgres", "--", "psql", "-U", "the app", "-d", DATABASE, "-c", "select pg_sleep(60)"],
        env=server.variables,
        stderr=subprocess.PIPE,
        text=True,
        cwd=server.folder,
    )
    try:
        time.sleep(0.3)
        variables = server.variables | server.login("restore") | {"RESTORE": name}
        command = ["runuser", "-u", "postgres", "--", "bash", str(server.folder / "scripts" / "restore.sh")]
        script = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert "terminating connection" in session.communicate(timeout=30)[1]
        assert "is not currently accepting connections" in server.sql("select 1", user="the app")
        assert script.wait(timeout=30) == 0
    finally:
        slow.unlink()
    assert server.sql("select count(*) from note", user="the app") == str(ROWS)


def superfluous(server: Server, sizes: dict[str, int], **variables: str) -> set[str]:
    """The backups that retention leaves out, of these with their sizes."""
    lines = "".join(f"{name} {size}\n" for name, size in sizes.items())
    script = f". {server.folder}/scripts/common.sh; superfluous <<< '{lines.strip()}'"
    return set(server.program("bash", "-c", script, **variables).stdout.split())


def days(kind: str, *ago: int) -> list[str]:
    """Names of backups made so many days ago."""
    return [f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(time.time() - day * 86400))}-{kind}" for day in ago]


def test_9_retention_keeps_the_newest(server: Server) -> None:
    made = [server.backup() for _ in range(5)]
    assert server.names() == made[-3:]
    old, undo, new = days("scheduled", 200, 201), days("before-restore", 202), days("manual", 1, 2, 3)
    sizes = dict.fromkeys(old + undo + new, 100)
    assert superfluous(server, sizes, KEEP="100", KEEP_DAYS="30") == set(old), (
        "the only one from before a restore stays"
    )
    assert superfluous(server, sizes, KEEP="2", KEEP_DAYS="0") == {new[-1], *old}
    assert superfluous(server, sizes, KEEP="100", KEEP_DAYS="0") == set()


def test_9_age_leaves_the_minimum_of_backups(server: Server) -> None:
    """After a pause of months all but the new one are too old."""
    old = days("scheduled", *range(200, 214))
    sizes = dict.fromkeys(days("scheduled", 0) + old, 100)
    assert superfluous(server, sizes, KEEP="14", KEEP_DAYS="30") == set(old[2:])
    assert superfluous(server, sizes, KEEP="2", KEEP_DAYS="30") == set(old[1:]), "never more than KEEP"


def test_9_small_dumps_after_an_empty_start_push_out_no_large_ones(server: Server) -> None:
    """A pause of months, then a server that began empty, and its backups."""
    old = days("scheduled", *range(200, 214))
    new = days("scheduled", *range(20))
    sizes = dict.fromkeys(old, 1000) | dict.fromkeys(new, 100)
    assert superfluous(server, sizes, KEEP="14", KEEP_DAYS="30") == set(new[14:] + old[3:])
    assert superfluous(server, sizes, KEEP="2", KEEP_DAYS="0") == set(new[2:] + old[2:])
    # Grown again.
    sizes |= dict.fromkeys(new[:1], 600)
    assert superfluous(server, sizes, KEEP="14", KEEP_DAYS="30") == set(new[14:] + old)


def test_9_backups_after_months_and_an_empty_start_keep_the_good_ones(server: Server) -> None:
    """The same with the script itself, on the volume."""
    server.sql("insert into note (text) select md5(i::text) from generate_series(1, 50000) i")
    (good,) = days("manual", 200)
    (server.backups / server.backup()).rename(server.backups / good)
    server.sql("truncate note", user="the owner")
    made = [server.backup() for _ in range(4)]
    assert server.names() == [good, *made[1:]]
    run = server.script("backup", KEEP="1", KEEP_DAYS="1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.names()[0] == good
    assert len(server.names()) == 2


def test_drill_counts_the_rows_and_leaves_nothing(server: Server) -> None:
    name = server.backup()
    run = server.script("drill")
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"drill passed: the backup {name} was restored in" in run.stdout
    assert f"2 tables with {ROWS + 2} rows" in run.stdout
    assert server.sql("select count(*) from pg_database where datname like 'the %'") == "1"
    comment = server.sql("select shobj_description(oid, 'pg_database') from pg_database where datname like 'the %'")
    noted = json.loads(comment)["kubernetes_django"]
    assert (noted["drill"]["rows"], noted["backup"]["name"]) == (ROWS + 2, name)


def noted(server: Server) -> dict:
    """What the comment on the database tells the page."""
    return json.loads(server.sql(COMMENT))["kubernetes_django"]


def test_10_failed_backup_and_drill_are_noted_until_the_next_succeeds(server: Server) -> None:
    """Also where there never was one before."""
    dump = server.folder / "bin" / "pg_dump"
    dump.write_text(
        f'#!/bin/bash\n[[ $1 != --version ]] || exec {SERVERS[-1]}/pg_dump "$1"\necho "no, it\'s" >&2\nexit 1\n'
    )
    dump.chmod(0o755)
    try:
        assert last_line(server.script("backup")) == "the dump failed: no, it's"
    finally:
        dump.unlink()
    assert list(noted(server)) == ["failed_backup"]
    assert noted(server)["failed_backup"]["cause"] == "the dump failed: no, it's"
    assert "there is no backup yet" in last_line(server.script("drill"))
    assert noted(server)["failed_drill"]["cause"].startswith("backup: there is no backup yet")
    name = server.backup()
    assert list(noted(server)) == ["backup", "failed_drill"]
    server.sql("create role departed; grant select on note to departed")
    bad = server.backup()
    server.sql("drop owned by departed; drop role departed")
    assert server.script("drill").returncode == 1
    assert noted(server)["failed_drill"]["cause"].startswith(f"the backup {bad} could not be restored")
    shutil.rmtree(server.backups / bad)
    assert server.script("drill").returncode == 0
    assert sorted(noted(server)) == ["backup", "drill"]
    assert noted(server)["drill"]["backup"] == name


class SmallVolume:
    """A server whose data is on a small volume, and whose container is started again whenever it ends."""

    def __init__(self, server: Server, *options: str) -> None:
        self.server, self.volume, self.options = server, server.folder / "data", options
        self.ballast = self.volume / "ballast"
        self.ending = False

    def __enter__(self) -> SmallVolume:
        self.stop_all("fast")
        kept = self.volume.rename(self.server.folder / "kept")
        self.volume.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500m,mode=0777", "small", self.volume], check=True)
        subprocess.run(["cp", "-a", kept, self.volume / "pgdata"], check=True)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self) -> None:
        """Be the kubelet."""
        variables = {"PGDATA": str(self.volume / "pgdata"), "PG_MAJOR": SERVERS[-1].parent.name}
        options = [f"-cunix_socket_directories={self.server.folder}", "-clisten_addresses=", *self.options]
        with (self.server.folder / "log").open("a") as log:
            place = {"env": self.server.variables | variables, "stdout": log, "stderr": log}
            while not self.ending:
                command = [ROOT / "roles/image/files/bases/postgres/docker-entrypoint.sh", "postgres", *options]
                self.process = subprocess.Popen(command, user="postgres", group="postgres", **place)
                self.process.wait()

    def stop_all(self, how: str) -> None:
        """Stop the server as it ran before, or runs after."""
        self.server.program("pg_ctl", "-D", str(self.volume), "-m", how, "-w", "stop")

    def wait(self) -> None:
        """Wait until the server answers."""
        for _ in range(600):
            if self.server.sql("select 1", "postgres") == "1":
                return
            time.sleep(0.1)
        pytest.fail((self.server.folder / "log").read_text()[-3000:])

    def leave(self, megabytes: int) -> None:
        """Take all room of the volume but this."""
        self.ballast.unlink(missing_ok=True)
        free = os.statvfs(self.volume)
        size = free.f_bavail * free.f_frsize - megabytes * 2**20
        subprocess.run(["fallocate", "-l", str(size), self.ballast], check=True)

    def __exit__(self, *_: object) -> None:
        self.ending = True
        self.process.send_signal(signal.SIGINT)
        self.thread.join()
        subprocess.run(["umount", "--lazy", self.volume], check=True)
        self.volume.rmdir()
        (self.server.folder / "kept").rename(self.volume)
        self.server.start()


@pytest.fixture
def large(server: Server) -> str:
    """A backup of more rows than a small volume has room for twice; their checksum."""
    text = "(select string_agg(md5((i * 20 + j)::text), '') from generate_series(1, 20) j)"
    server.sql(f"insert into note (text) select {text} from generate_series(1, 60000) i", user="the owner")
    return server.backup()


def test_room_is_asked_for_before_data_is_copied(server: Server, large: str) -> None:
    before = server.sql(CHECKSUM)
    server.sql(f"create database {quoted(DATABASE + '_kept_20260101T000000Z')}", "postgres")
    with SmallVolume(server) as volume:
        volume.wait()
        volume.leave(50)
        for script in ("restore", "drill"):
            said = last_line(server.script(script, RESTORE=large))
            needs = (
                r"storage_size: the restored database needs \d+ MB beside what is there, and the server's volume has "
            )
            ends = (
                r"\d+ MB free\. Make it larger, or drop what restores have kept: the \"site\"_kept_20260101T000000Z\."
            )
            assert re.fullmatch(needs + ends, said), said
        assert server.sql(CHECKSUM) == before
        assert server.names() == [large]


@pytest.mark.parametrize("archive", ["true", "false"])
def test_log_that_no_archive_takes_needs_room_as_well(server: Server, large: str, archive: str) -> None:
    """However small max_wal_size is: what is not archived stays."""
    path = server.backups / large / "backup.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"database_bytes": 150_000_000}))
    options = ("-carchive_mode=on", f"-carchive_command={archive}", "-cmax_wal_size=32MB", "-cmin_wal_size=32MB")
    with SmallVolume(server, *options) as volume:
        volume.wait()
        server.sql("select pg_switch_wal()")
        tried = "select coalesce(last_archived_time, last_failed_time) is not null from pg_stat_archiver"
        while server.sql(tried) != "t":
            time.sleep(0.1)
        volume.leave(270)
        run = server.script("drill", UNSIGNED="true")
    if archive == "true":
        assert run.returncode == 0, run.stdout + run.stderr
    else:
        assert last_line(run).startswith("storage_size: the restored database needs 332 MB beside what is there")
        assert "MB free. The archive does not take the log, which stays there: " in last_line(run)


@pytest.mark.parametrize("script", ["restore", "drill"])
def test_what_fills_the_volume_all_the_same_clears_up(server: Server, large: str, script: str) -> None:
    """The server stops for want of room for its log, recovers in its reserve, and what was made is dropped."""
    before = server.sql(CHECKSUM)
    path = server.backups / large / "backup.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"database_bytes": 1}))
    with SmallVolume(server) as volume:
        volume.wait()
        volume.leave(45)
        run = server.script(script, RESTORE=large, UNSIGNED="true")
        assert run.returncode != 0, run.stdout + run.stderr
        volume.wait()
        assert server.sql(CHECKSUM) == before
        assert server.sql("select count(*) from note", user="the app") == before.partition("|")[0]
        made = server.sql("select datname from pg_database where datname ~ '_(restoring|drill)$'", "postgres")
        assert made == "", (server.folder / "log").read_text()[-3000:]


def test_comment_of_somebody_else_stays(server: Server) -> None:
    server.sql('comment on database "the ""site""" is \'precious\'')
    server.backup()
    comment = server.sql("select shobj_description(oid, 'pg_database') from pg_database where datname like 'the %'")
    assert comment == "precious"


def test_volume_that_cannot_be_used_is_told(server: Server, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o755)
    open_way(tmp_path)
    said = last_line(server.script("backup", BACKUPS=str(closed)))
    assert "postgres_backup_path: user" in said
    assert "belongs to 0:0, mode 755" in said

    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k,mode=0777", "full", full], check=True)
    try:
        said = last_line(server.script("backup", BACKUPS=str(full)))
        assert "postgres_backup_size: the volume of the backups is full" in said
        assert [path.name for path in full.iterdir()] == [".lock"]
    finally:
        subprocess.run(["umount", full], check=True)


@pytest.fixture
def bucket(server: Server) -> Iterator[Bucket]:
    folder = server.folder / f"bucket-{time.monotonic_ns()}"
    folder.mkdir(mode=0o755)
    made = Bucket(folder)
    login = folder / "s3-login"
    login.mkdir()
    (login / "access-key").write_text("key")
    (login / "secret-key").write_text("the secret")
    made.variables = {
        "S3_ENDPOINT": made.endpoint,
        "S3_BUCKET": "bucket",
        "S3_PREFIX": "site",
        "S3_REGION": "us-east-1",
        "S3_LOGIN": str(login),
    }
    yield made
    made.stop()


needs_s3 = pytest.mark.skipif(not (find_go() and shutil.which("rclone")), reason="needs Go and rclone")


@pytest.mark.long
@needs_s3
def test_backup_outlives_its_volume_in_a_bucket(server: Server, bucket: Bucket) -> None:
    """Copied, listed, kept to the same number, and fetched again when the volume is gone."""
    before = server.sql(CHECKSUM)
    names = []
    for _ in range(3):
        server.wait_for_a_name()
        run = server.script("backup", **bucket.variables, KEEP="2")
        assert run.returncode == 0, run.stdout + run.stderr
        assert "copied it to http://127.0.0.1" in run.stdout
        names = server.names()
    assert sorted(path.name for path in (bucket.files / "bucket" / "site" / SITE).iterdir()) == names
    listed = [json.loads(line) for line in server.script("list", **bucket.variables).stdout.splitlines()]
    assert [item["places"] for item in listed[:-1]] == [["volume", "bucket"]] * 2
    for name in names:
        shutil.rmtree(server.backups / name)
    listed = [json.loads(line) for line in server.script("list", **bucket.variables).stdout.splitlines()]
    assert [(item["backup"]["name"], item["places"]) for item in listed[:-1]] == [(name, ["bucket"]) for name in names]
    server.sql("delete from note")
    run = server.script("restore", RESTORE=names[0], **bucket.variables)
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(CHECKSUM) == before


@pytest.mark.long
@needs_s3
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"S3_BUCKET": "elsewhere"}, "directory not found"),
        ({"S3_ENDPOINT": "http://127.0.0.1:9"}, "connection refused"),
        ({"secret": "another"}, "SignatureDoesNotMatch"),
        ({"access": "nobody"}, "directory not found"),
    ],
)
def test_bucket_that_refuses_is_told(server: Server, bucket: Bucket, wrong: dict[str, str], message: str) -> None:
    """The Job fails, and the backup on the volume is a good one."""
    for name in ("access", "secret"):
        if name in wrong:
            (Path(bucket.variables["S3_LOGIN"]) / f"{name}-key").write_text(wrong[name])
    variables = bucket.variables | {name: value for name, value in wrong.items() if name.startswith("S3")}
    said = last_line(server.script("backup", **variables))
    assert said.startswith(
        f"postgres_backup_s3_endpoint: {variables['S3_ENDPOINT']}, bucket {variables['S3_BUCKET']} refused: "
    )
    assert message in said
    assert len(server.names()) == 1
    assert server.script("restore", RESTORE="latest").returncode == 0


@pytest.mark.long
@needs_s3
def test_9_retention_in_a_bucket_is_that_of_the_volume(server: Server, bucket: Bucket) -> None:
    """And while the bucket fails, the volume does not fill."""
    place = bucket.files / "bucket" / "site" / SITE
    (good,) = days("manual", 200)
    made = server.backups / server.backup()
    shutil.copytree(made, place / good)
    with (place / good / "database.dump").open("ab") as dump:
        dump.write(bytes(3 * dump.tell()))
    shutil.copytree(made, place / days("manual", 201)[0])
    shutil.rmtree(made)
    wanted = [good]
    for _ in range(3):
        server.wait_for_a_name()
        run = server.script("backup", **bucket.variables, KEEP="2", KEEP_DAYS="30")
        assert run.returncode == 0, run.stdout + run.stderr
        wanted = [good, *server.names()]
    assert sorted(path.name for path in place.iterdir()) == wanted
    files = ["backup.json", "backup.json.sig", "database.dump"]
    assert sorted(path.name for path in (place / wanted[-1]).iterdir()) == files
    before = server.names()
    refused = bucket.variables | {"S3_BUCKET": "elsewhere"}
    server.wait_for_a_name()
    assert "refused: " in last_line(server.script("backup", **refused, KEEP="2"))
    assert len(server.names()) == 2
    assert before[0] not in server.names()


def test_image_without_rclone_is_told(server: Server) -> None:
    login = {
        "S3_ENDPOINT": "http://127.0.0.1:9",
        "S3_BUCKET": "b",
        "S3_PREFIX": "",
        "S3_REGION": "r",
        "S3_LOGIN": "/nowhere",
    }
    path = server.folder / "few"
    path.mkdir(exist_ok=True)
    for place in (SERVERS[-1], Path("/usr/bin"), Path("/bin")):
        for program in place.iterdir():
            if program.name != "rclone" and not (path / program.name).exists():
                (path / program.name).symlink_to(program)
    command = ["env", f"PATH={path}", "bash", str(server.folder / "scripts" / "backup.sh")]
    assert "this image has no rclone" in last_line(server.program(*command, **(server.login("backup") | login)))


def test_9_backups_of_another_site_on_the_volume_are_not_counted(server: Server) -> None:
    """Those without an id, made before sites had them, are the site's own."""
    before = server.sql(CHECKSUM)
    name = server.backup()
    told = json.loads((server.backups / name / "backup.json").read_text())
    others = days("scheduled", -1, 100, 101, 102, 103)
    (old,) = days("scheduled", 99)
    for other in (*others, old):
        shutil.copytree(server.backups / name, server.backups / other)
        told["site_id"] = OTHER
        if other == old:
            del told["site_id"]
        (server.backups / other / "backup.json").write_text(json.dumps(told | {"name": other}))
    subprocess.run(["chown", "-R", "postgres:postgres", server.backups], check=True)
    listed = [json.loads(line) for line in server.script("list").stdout.splitlines()]
    assert [item["backup"]["name"] for item in listed[:-1]] == [old, name]
    assert f"the backup {name} was restored" in server.script("drill").stdout
    assert server.script("backup", KEEP="1", KEEP_DAYS="1").returncode == 0
    assert set(others) < set(server.names())
    assert not {old, name} & set(server.names())
    # By its name, and that of its site.
    for given in (others[0], f"{OTHER}/{others[1]}"):
        server.sql("delete from note")
        shutil.copytree(server.backups / others[1], server.backups / f"{OTHER}-{others[1]}", dirs_exist_ok=True)
        subprocess.run(["chown", "-R", "postgres:postgres", server.backups], check=True)
        run = server.script("restore", RESTORE=given, UNSIGNED="true")
        assert run.returncode == 0, run.stdout + run.stderr
        assert server.sql(CHECKSUM) == before


@pytest.mark.long
@needs_s3
def test_9_two_sites_in_one_bucket_mix_nothing_up(server: Server, bucket: Bucket) -> None:
    place = bucket.files / "bucket" / "site"
    before = server.sql(CHECKSUM)

    def backup(**variables: str) -> str:
        name = server.backup_to(bucket.variables | variables)
        shutil.rmtree(server.backups / name)
        return name

    old = backup(SITE_ID="")
    assert sorted(path.name for path in place.iterdir()) == [old]
    said = last_line(server.script("restore", RESTORE="latest", **bucket.variables))
    assert said == (
        f"backup: there is no backup with the id of this site, {SITE}. These have no site's id, and may be another "
        f"site's. Name one: {old}"
    )
    ours = backup()
    theirs = [backup(SITE_ID=OTHER, KEEP="1", KEEP_DAYS="1") for _ in range(3)]
    assert sorted(path.name for path in place.iterdir()) == sorted([old, SITE, OTHER])
    assert [path.name for path in (place / SITE).iterdir()] == [ours]
    assert [path.name for path in (place / OTHER).iterdir()] == theirs[-1:]
    listed = [json.loads(line) for line in server.script("list", **bucket.variables).stdout.splitlines()]
    assert [(item["backup"]["name"], item["places"]) for item in listed[:-1]] == [
        (old, ["bucket, of no site"]),
        (ours, ["bucket"]),
    ]
    assert f"the backup {ours} was restored" in server.script("drill", **bucket.variables).stdout
    for given in (old, f"{OTHER}/latest"):
        server.sql("delete from note")
        run = server.script("restore", RESTORE=given, **bucket.variables)
        assert run.returncode == 0, run.stdout + run.stderr
        assert server.sql(CHECKSUM) == before
    assert f"{OTHER}-{theirs[-1]}" in server.names()
