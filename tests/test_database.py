"""The plugins' way into the database, on a real server: what a database says of itself is its owner's to write."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

import pytest
import yaml
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_upgrade import is_closed
from ansible_collections.kubernetes_django.site.plugins.module_utils.database import Database, KubeError, make_stand_in
from conftest import ROOT
from test_passwords import PORT, USERS, Server, four, needs_server, server

__all__ = ["server"]

pytestmark = [pytest.mark.servers, needs_server]

SITE = "the site"
OWNER, APP = USERS["postgres-owner"], USERS["postgres-app"]
# What the scripts and questions call, with the owner's own before PostgreSQL's.
HOSTILE = """
create schema e;
create function e.seize() returns text language plpgsql as $$
begin execute 'alter role "the app" superuser'; return ''; end $$;
create function e.current_database() returns name language sql
as 'select e.seize(); select pg_catalog.current_database()';
create function e.quote_ident(text) returns text language sql as 'select e.seize(); select pg_catalog.quote_ident($1)';
create function e.to_regrole(text) returns regrole language sql as 'select e.seize(); select pg_catalog.to_regrole($1)';
alter database "the site" set search_path = e, pg_catalog;
"""


class Pod:
    """Stands for the connection to the cluster: a command for a pod is run beside the server."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def run_in_pod(self, _namespace: str, _pod: str, _container: str, command: list[str], stdin: str = ""):
        """As the connection's own."""
        done = self.server.run(*command, stdin=stdin, check=False, POSTGRES_DB=SITE)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """A site that was deployed once."""
    server.mount(four("x"))
    server.sql(f'create database "{SITE}"')
    made = Database(Pod(server), "", "postgres-0", SITE, PORT)
    deploy(made)
    yield made
    server.sql(f'drop database if exists "{SITE}"; alter role "the app" nosuperuser')


def deploy(database: Database) -> None:
    """Run what a deploy and its end run."""
    database.sql((ROOT / "roles/postgres/files/activity.sql").read_text())
    for script in ("10-roles.sql", "20-passwords.sh"):
        database.run_script(str(database.kube.server.folder / script))
    database.sql(make_stand_in("stand-in", APP, "a password"))


def as_owner(database: Database, script: str) -> None:
    """Run a script as who owns the database."""
    psql = ("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-U", OWNER, "-d", SITE, "-f", "-")
    done = database.kube.server.run(*psql, stdin=script, check=False)
    assert done.returncode == 0, done.stderr


def superusers(database: Database) -> str:
    """Who is one."""
    return database.kube.server.sql("select string_agg(rolname, ' ') from pg_roles where rolsuper").strip()


def ask_status(database: Database) -> str:
    """Run what playbooks/status.yml runs in the pod."""
    tasks = yaml.safe_load((ROOT / "roles/postgres/tasks/status.yml").read_text())
    command = tasks[0]["kubernetes.core.k8s_exec"]["command"]
    command = command.replace("{{ postgres_port }}", str(PORT)).replace("{{ postgres_database | quote }}", f"'{SITE}'")
    return database.run(*shlex.split(command))[1]


def test_16_owners_functions_are_not_called_by_a_superuser(database: Database) -> None:
    as_owner(database, HOSTILE)
    deploy(database)
    assert superusers(database) == "postgres"


def test_16_owners_functions_are_not_called_by_the_question_for_the_status(database: Database) -> None:
    as_owner(database, HOSTILE + f"""comment on database "{SITE}" is 'told';""")
    assert ask_status(database).splitlines()[-1] == "told"
    assert superusers(database) == "postgres"


@pytest.mark.parametrize(
    "setting", ["password_encryption = 'md5'", "role = 'the \"owner\":x'", "default_transaction_read_only = on"]
)
def test_16_owners_settings_are_not_a_superusers(database: Database, setting: str) -> None:
    as_owner(database, f'alter database "{SITE}" set {setting}')
    deploy(database)
    assert database.kube.server.sql("select count(*) from pg_authid where rolpassword like 'md5%'") == "0\n"


def test_extensions_are_made_where_the_site_looks_for_them(database: Database) -> None:
    where = "select extnamespace::regnamespace from pg_extension where extname = 'pg_trgm'"
    assert database.sql(where) == "public\n"


@pytest.mark.parametrize("state", ["connection limit 0", "allow_connections false", "dropped"])
def test_right_password_is_right_where_the_database_is_shut(database: Database, state: str) -> None:
    """As an interrupted upgrade or restore leaves it. The server looks at the password first."""
    server = database.kube.server
    server.sql(f'drop database "{SITE}"' if state == "dropped" else f'alter database "{SITE}" {state}')
    folders = [str(server.folder / "secrets" / name) for name in ("postgres-owner", "postgres-app", "postgres-admin")]
    for secret, user in USERS.items():
        right = four("x")[secret]
        assert database.accepts(user, right)
        assert not database.accepts(user, right + "x")
    assert not database.accepts("nobody", "x")
    assert database.refused(folders) == []
    server.mount(four("x") | {"postgres-app": "another"})
    assert database.refused(folders) == [APP]


def test_login_that_tells_nothing_of_the_password_is_an_error(database: Database) -> None:
    database.kube.server.sql('alter role "the app" nologin')
    with pytest.raises(KubeError, match='role "the app" is not permitted to log in'):
        database.accepts(APP, four("x")["postgres-app"])


def test_database_that_an_upgrade_has_closed(database: Database) -> None:
    """A limit of 0 that somebody set himself is none. Where the database is gone, a restore is what brings it back."""
    ask = database.kube.server.sql
    ask(f'alter database "{SITE}" connection limit 0')
    assert not is_closed(database)
    ask(f"""alter database "{SITE}" set kubernetes_django.connection_limit = '-1'""")
    assert is_closed(database)
    assert not is_closed(replace(database, name="the site's own"))
