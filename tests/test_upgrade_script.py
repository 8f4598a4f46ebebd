"""The script of an upgrade's Job, between two real PostgreSQL servers of this machine, of the same version."""

from __future__ import annotations

import fcntl
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_upgrade import CLOSED
from test_backup_scripts import (
    CHECKSUM,
    DATABASE,
    ROWS,
    SERVERS,
    STEAL,
    Server,
    is_unharmed,
    last_line,
    pytestmark,
    running,
    server,
)

__all__ = ["pytestmark", "running", "server"]

LIMIT = "select datconnlimit from pg_database where datname like 'the %'"


class Volume:
    """The new server's volume, and the server on it."""

    def __init__(self, old: Server) -> None:
        self.old, self.folder = old, old.folder / "volume"
        (self.folder / "sockets").mkdir(parents=True)
        (self.folder / "data").mkdir()
        subprocess.run(["chown", "-R", "postgres:postgres", self.folder], check=True)

    def upgrade(self, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the script, with more options of the server and more variables."""
        variables = {
            "PGDATA": str(self.folder / "data" / "pgdata"),
            "SOCKETS": str(self.folder / "sockets"),
            "POSTGRES_INITDB_ARGS": "--auth=trust --data-checksums",
            "LOGIN": str(self.old.folder / "admin"),
        }
        script = str(self.old.folder / "scripts" / "upgrade.sh")
        # As the server's own configuration says.
        hba = self.folder / "hba"
        hba.write_text("local all all peer\n")
        hba.chmod(0o644)
        options = ("-c", f"hba_file={hba}", *options)
        return self.old.program("bash", script, "-p", "5432", *options, **(variables | more))

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
    # That of a test that failed still runs, and would take its socket along when it ends.
    server.program("pg_ctl", "-D", str(made.folder / "data" / "pgdata"), "-m", "immediate", "stop")
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
        assert sql(CLOSED.format(name="current_database()")) == "t"
        assert sql((server.folder / "scripts" / "open.sql").read_text()) == ""
        assert sql(CLOSED.format(name="current_database()")) == "f"
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


def test_2_what_the_old_volume_alone_has_is_named(server: Server, volume: Volume) -> None:
    """It is promised to stay until somebody says that it may go."""
    assert "alone" not in volume.upgrade().stdout
    assert server.sql((server.folder / "scripts" / "open.sql").read_text()) == ""
    kept = "the site_kept_20260101T000000Z"
    server.sql(f'create database "{kept}" allow_connections false', "postgres")
    aside = server.folder / "data.original"
    aside.mkdir()
    try:
        run = volume.upgrade()
    finally:
        aside.rmdir()
    assert f"then on the old volume alone: database {kept}, directory data.original\n" in run.stdout, run.stdout
    assert run.stdout.index("alone") < run.stdout.index("the site has to wait")
    assert server.sql((server.folder / "scripts" / "open.sql").read_text()) == ""


def test_database_that_somebody_closed_himself_was_closed_by_no_upgrade(server: Server) -> None:
    server.sql('alter database "the ""site""" connection limit 0')
    assert server.sql(CLOSED.format(name="current_database()")) == "f"


def when_it_is_synced(server: Server, statement: str) -> None:
    """Let `initdb` of the scripts run a statement on the old server when the copy is brought to the disk, once."""
    initdb = server.folder / "bin" / "initdb"
    initdb.write_text(f"""#!/bin/bash
[[ $* != *--sync-only* ]] || psql -Xq -U postgres -d postgres -c {shlex.quote(statement)}
exec {SERVERS[-1]}/initdb "$@"
""")
    initdb.chmod(0o755)


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ('alter database "the ""site""" connection limit -1', DATABASE),
        ('create database "the other one" owner "the owner"', "the other one"),
    ],
)
def test_2_database_that_was_opened_meanwhile_fails_the_copy(
    server: Server, volume: Volume, statement: str, name: str
) -> None:
    """What was written into it would be lost."""
    when_it_is_synced(server, statement)
    try:
        said = last_line(volume.upgrade())
    finally:
        (server.folder / "bin" / "initdb").unlink()
    assert said.startswith(f"somebody has opened while they were copied, or made: {name}. What was written there"), said
    assert server.sql(LIMIT).splitlines()[0] == "-1"
    assert server.sql("select count(*) from note", user="the app") == str(ROWS)


@pytest.mark.parametrize("how", STEAL)
def test_13_upgrade_runs_nothing_of_the_databases_as_superuser(server: Server, volume: Volume, how: str) -> None:
    """A function that a table calls for each row that is copied, and hides that it failed."""
    (server.folder / "stolen").unlink(missing_ok=True)
    steal = "; ".join(f"execute $x${each}$x$" for each in STEAL[how].format(folder=server.folder).split("; "))
    body = f"begin {steal}; return true; exception when others then return true; end"
    function = f"create function public.check_it(text) returns boolean language plpgsql as $f${body}$f$"
    assert server.sql(function, user="the owner") == ""
    assert server.sql("alter table note add check (public.check_it(text))", user="the owner") == ""
    run = volume.upgrade()
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{ROWS} rows in public.note" in run.stdout
    volume.server("start")
    assert is_unharmed(server)
    assert volume.sql("select string_agg(rolname, ',') from pg_roles where rolsuper", "postgres") == "postgres"
    volume.server("stop")
    assert server.sql((server.folder / "scripts" / "open.sql").read_text()) == ""


OWNERS = """
    select pg_identify_object(classid, objid, 0), refobjid::regrole::text, deptype from pg_shdepend
    where dbid = (select oid from pg_database where datname = current_database())
        and classid <> 'pg_default_acl'::regclass
    order by 1, 2, 3"""


@pytest.fixture
def another(server: Server) -> Iterator[str]:
    """A role with things of its own in the database, which nobody logs in as."""
    server.sql('create role "another one"', "postgres")
    yield '"another one"'
    server.sql('drop owned by "another one" cascade; drop role "another one"')


def test_13_what_belongs_to_others_is_refused_before_anybody_waits(
    server: Server, volume: Volume, another: str
) -> None:
    """Nobody but a superuser could give it to them, and whoever owned it meanwhile may have altered it."""
    assert server.sql(f"create schema theirs authorization {another}") == ""
    theirs = (
        "create table theirs.thing (id serial primary key, at int[] default '{}') partition by range (id)",
        "create table theirs.part partition of theirs.thing for values from (1) to (100)",
        "insert into theirs.thing (id) select generate_series(1, 7)",
        'create view theirs.seen as select * from theirs.thing; grant select on theirs.seen to "the owner"',
        "create function theirs.f(int) returns int language sql as 'select 1'",
        "create aggregate theirs.all_of_them(*) (sfunc = int8inc, stype = int8, initcond = '0')",
        "create type theirs.mood as enum ('a', 'b'); create domain theirs.natural as int check (value > 0)",
        "create statistics theirs.both on id, at from theirs.thing",
        "select lo_from_bytea(4711, 'large')",
        'alter default privileges grant select on tables to "the app"',
    )
    for statement in theirs:
        assert server.sql(f"set role {another}; {statement}") in ("", "4711")
    assert server.sql("create materialized view counted as select count(*) from note", user="the owner") == ""
    run = volume.upgrade()
    assert last_line(run).startswith(
        f"the database {DATABASE} holds what is not its owner's, and each owner loads his own"
    )
    assert "table theirs.part of another one" in last_line(run)
    assert last_line(run).endswith("say -e postgres_upgrade_as_superuser=true. Nothing was touched.")
    assert "has to wait" not in run.stdout
    run = volume.upgrade(AS_SUPERUSER="true", JOBS="3")
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql((server.folder / "scripts" / "open.sql").read_text()) == ""
    defaults = "select defaclrole::regrole, defaclobjtype, defaclacl from pg_default_acl order by 3"
    volume.server("start")
    for question in (OWNERS, defaults, "select * from counted", "select count(*), max(id) from theirs.thing", CHECKSUM):
        assert volume.sql(question) == server.sql(question) != ""
    assert volume.sql("select lo_get(4711)") == r"\x6c61726765"
    assert "is not permitted to log in" in volume.sql("select 1", user="another one")
    volume.server("stop")


def test_13_database_of_a_superuser_is_refused_before_anybody_waits(server: Server, volume: Volume) -> None:
    server.sql('create database "the shared one"', "postgres")
    run = volume.upgrade()
    said = (
        "the database the shared one holds what is not its owner's, and each owner loads his own alone: the database "
    )
    assert last_line(run).startswith(f"{said}itself, which is the superuser postgres's.")
    assert "has to wait" not in run.stdout
    assert volume.upgrade(AS_SUPERUSER="true").returncode == 0
    assert not (volume.folder / "data" / ".definitions").exists()
    assert server.sql((server.folder / "scripts" / "open.sql").read_text()) == ""


def test_13_what_another_superuser_made_is_named(server: Server, volume: Volume) -> None:
    server.sql("create role admin superuser", "postgres")
    try:
        assert server.sql("set role admin; create table of_admin ()") == ""
        said = last_line(volume.upgrade())
        assert "each owner loads his own alone: table public.of_admin of admin." in said, said
    finally:
        server.sql("drop owned by admin; drop role admin")


def test_upgrade_keeps_rights_and_passes_over_settings_of_the_owner(server: Server, volume: Volume) -> None:
    """What its owner may no longer do with a table, what others granted, on what is PostgreSQL's or an extension's."""
    app, owner = '"the app"', '"the owner"'
    settings = ("default_transaction_read_only = on", "statement_timeout = '1ms'", "role = 'the app'")
    statements = (
        f"create extension pg_stat_statements; grant execute on function pg_stat_statements_reset to {app}",
        f"grant execute on function pg_ls_waldir() to {app}; grant select on pg_stat_statements to {app}",
        "revoke execute on function pg_sleep(double precision) from public",
        f"set role {owner}; revoke insert on note from {owner}; grant select on note to {app} with grant option",
        f"set role {app}; grant select on note to pg_monitor",
        f"grant {app} to {owner}; alter role {owner} connection limit 1",
        *(f"alter role {owner} set {each}" for each in settings),
    )
    try:
        for statement in statements:
            assert server.sql(statement) == ""
        # Each of them is read by itself, next to the others.
        copy = server.folder / "scripts" / "upgrade.sh"
        text = copy.read_text()
        copy.write_text(text.replace("> 256 * 1024 * 1024", "> 0"))
        run = volume.upgrade(JOBS="3")
        copy.write_text(text)
        assert run.returncode == 0, run.stdout + run.stderr
        assert server.sql((server.folder / "scripts" / "open.sql").read_text()) == ""
        volume.server("start")
        rights = "select relname, relacl from pg_class where relname in ('note', 'pg_stat_statements') order by 1"
        functions = "('pg_ls_waldir', 'pg_sleep', 'pg_stat_statements_reset')"
        more = f"select proname, proacl from pg_proc where proname in {functions} order by 1"
        owners = "select rolconnlimit, rolconfig from pg_roles where rolname = 'the owner'"
        for question in (rights, more, owners, CHECKSUM):
            assert volume.sql(question) == server.sql(question) != ""
        volume.server("stop")
    finally:
        server.sql(f"alter role {owner} reset all; alter role {owner} connection limit -1; revoke {app} from {owner}")


def test_upgrade_says_how_far_it_is(server: Server, volume: Volume) -> None:
    assert server.sql(f"insert into note (text) select md5(i::text) from generate_series(1, {50 * ROWS}) i") == ""
    run = volume.upgrade(LOOK_SECONDS="0.1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"the site has to wait, about \d+ s for \d+ MB, which no drill has measured here", run.stdout)
    shares = [int(each) for each in re.findall(r"^(\d+) % after", run.stdout, re.MULTILINE)]
    assert shares == sorted(set(shares))
    assert len(shares) > 2
    assert server.sql((server.folder / "scripts" / "open.sql").read_text()) == ""


def test_upgrade_that_takes_too_long_is_undone(server: Server, volume: Volume) -> None:
    """A table that takes 5 s."""
    for statement in (
        "create table slow (id int check (pg_sleep(0.05) is not null))",
        "insert into slow select generate_series(1, 100)",
    ):
        assert server.sql(statement, user="the owner") == ""
    said = last_line(volume.upgrade(LOOK_SECONDS="0.1", DEADLINE="1"))
    assert re.fullmatch(r"postgres_backup_deadline: \d+ MB were not done after 1 s\.", said), said
    assert server.sql("select count(*) from note", user="the app") == str(ROWS)
    assert server.sql(LIMIT) == "-1"


def test_2_data_that_was_opened_to_the_site_is_never_cleared(server: Server, volume: Volume) -> None:
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


def test_2_volume_that_a_server_uses_is_not_cleared(server: Server, volume: Volume) -> None:
    """The server's entrypoint, and a restore to a moment, lock a file beside the data."""
    assert volume.upgrade().returncode == 0
    flock = server.folder / "bin" / "flock"
    flock.write_text('#!/bin/bash\nexec /usr/bin/flock "${@/#60/1}"\n')
    flock.chmod(0o755)
    try:
        with (volume.folder / "data" / ".pgdata.lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert last_line(volume.upgrade()) == "storage_claim: a server uses the new volume. Stop it first."
    finally:
        flock.unlink()
    volume.server("start")
    assert volume.sql("select count(*) from note") == str(ROWS)
    volume.server("stop")
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
