"""Passwords on their way into PostgreSQL: the scripts that set them, on a real server; and the checksums of Secrets."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import programs
import pytest
import yaml
from ansible_collections.kubernetes_django.site.plugins.module_utils.database import (
    KubeError,
    change_password,
    make_stand_in,
)
from ansible_collections.kubernetes_django.site.plugins.module_utils.keyed_checksum import keyed_checksum
from conftest import ROOT, Project

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
PORT = programs.free_port()
# Lengths, quotes, what psql and shells take for their own, spaces inside, and Unicode: some of it is another text after
# SASLprep (a full-width 1, a soft hyphen, an ideographic space), the last is none that SASLprep allows.
PASSWORDS = {
    "plain": "correct-horse-battery",
    "quotes": 'it\'s "$HOME" `id` \\ :\'x\' :"y" %s !',
    "backslash": "\\password \\! id \\q",
    "long": "x" * 900,
    "umlauts": "pä ßwörd Ж 密码",
    "prepared": "a\u00adb\u3000\uff11\u2168",
    "forbidden": "a\u0627b\u0001",
}
USERS = {"postgres-owner": 'the "owner":x', "postgres-app": "the app", "postgres-exporter": "exporter"}
KEY = "0123456789" * 5

needs_server = pytest.mark.skipif(os.geteuid() != 0 or not SERVERS, reason="needs root and a PostgreSQL server")


class Server:
    """A server that logs each statement and keeps statistics of all; with the scripts and Secrets as a pod has them."""

    def __init__(self, folder: Path, scripts: dict[str, str]) -> None:
        self.folder, self.data = folder, folder / "data"
        for name, text in scripts.items():
            # The one thing that differs: where Secrets are mounted.
            (folder / name).write_text(text.replace("/run/secrets", f"{folder}/secrets"))
        subprocess.run(["chown", "-R", "postgres:postgres", folder], check=True)
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": PORT,
            "unix_socket_directories": folder,
            "shared_preload_libraries": "pg_stat_statements",
            "log_statement": "all",
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self.run("pg_ctl", "-D", str(self.data), "-l", str(folder / "log"), "-w", "-o", options, "start")
        self.sql("create extension pg_stat_statements")

    def run(
        self, program: str, *arguments: str, stdin: str = "", check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of PostgreSQL's, or bash, as its user and without a terminal, as in a pod."""
        place = {
            "PGHOST": str(self.folder),
            "PGPORT": str(PORT),
            "POSTGRES_USER": "postgres",
            "POSTGRES_DB": "postgres",
        }
        return subprocess.run(
            [
                "setsid",
                "--wait",
                "setpriv",
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                program,
                *arguments,
            ],
            env={"PATH": f"{SERVERS[-1]}:/usr/bin:/bin", "LANG": "C.UTF-8"} | place | environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=check,
            cwd="/",
        )

    def psql(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script as the plugins do: on standard input."""
        return self.run(
            "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-f", "-", stdin=script, check=False
        )

    def sql(self, script: str) -> str:
        """What a script prints."""
        done = self.psql(script)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def login(self, user: str, password: str) -> str:
        """Log in over TCP; return the role one then is, or what the server says."""
        place = {"PGHOST": "127.0.0.1", "PGPASSWORD": password}
        done = self.run(
            "psql", "-XqAt", "-U", user, "-d", "postgres", "-c", "select current_user", check=False, **place
        )
        return (done.stdout + done.stderr).strip()

    def mount(self, passwords: dict[str, str]) -> None:
        """Give the Secrets these passwords."""
        shutil.rmtree(self.folder / "secrets", ignore_errors=True)
        for secret, password in passwords.items():
            folder = self.folder / "secrets" / secret
            folder.mkdir(parents=True)
            (folder / "password").write_text(password)
            if secret in USERS:
                (folder / "user").write_text(USERS[secret])

    def set_passwords(self, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the scripts as the entrypoint does, or the second with another text."""
        roles, passwords = self.folder / "10-roles.sql", self.folder / "20-passwords.sh"
        if text is not None:
            passwords = self.folder / "other.sh"
            passwords.write_text(text)
        self.sql(roles.read_text())
        # The official image's entrypoint sources it.
        return self.run("bash", "-c", f"set -Eeo pipefail; . {passwords}; echo sourced", check=False)

    def seen(self) -> str:
        """All that the log and the statistics of statements have."""
        return (self.folder / "log").read_text() + self.sql("select query from pg_stat_statements")


@pytest.fixture(scope="module")
def server(shared_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    out = tmp_path_factory.mktemp("rendered")
    template = ROOT / "roles/postgres/templates/postgres-init.configmap.yaml.j2"
    given = {
        "postgres_exporter": True,
        "postgres_extensions": ["pg_trgm"],
        "out": str(out),
        "templates": [str(template)],
    }
    run = shared_project.run("tests/render.yml", "-e", f"@{ROOT}/tests/variables/defaults.yml", "-e", json.dumps(given))
    assert run.returncode == 0, run.stdout + run.stderr
    scripts = yaml.safe_load((out / "postgres-init.configmap.yaml").read_text())["data"]
    # A socket's path has room for 100 characters, and the server's user must get there.
    folder = Path(tempfile.mkdtemp(prefix="passwords-", dir="/tmp"))
    folder.chmod(0o755)
    made = Server(folder, scripts)
    yield made
    made.run("pg_ctl", "-D", str(made.data), "-m", "fast", "-w", "stop")
    shutil.rmtree(folder)


def four(password: str) -> dict[str, str]:
    """Passwords of all roles, made of one."""
    return {secret: f"{password}{number}" for number, secret in enumerate([*USERS, "postgres-admin"])}


@pytest.mark.servers
@needs_server
@pytest.mark.parametrize("kind", PASSWORDS)
def test_16_every_password_logs_in_and_the_server_never_hears_it(server: Server, kind: str) -> None:
    passwords = four(PASSWORDS[kind])
    server.mount(passwords)
    done = server.set_passwords()
    assert (done.returncode, done.stdout) == (0, "sourced\n"), done.stderr
    for secret, password in passwords.items():
        user = USERS.get(secret, "postgres")
        assert server.login(user, password) == user
        assert "password authentication failed" in server.login(user, password + "x")
    seen = server.seen()
    assert not [password for password in passwords.values() if password in seen]
    assert "SCRAM-SHA-256$" not in seen


@pytest.mark.servers
@needs_server
def test_where_all_is_logged_there_are_verifiers(server: Server) -> None:
    """The same script without what keeps it out of log and statistics: so they would show a password that was sent."""
    passwords = four("heard by the server ")
    server.mount(passwords)
    text = (server.folder / "20-passwords.sh").read_text()
    loud = re.sub(r'echo "SET .*"\n', "true\n", text)
    assert loud.count("true\n") == 2
    assert server.set_passwords(loud).returncode == 0
    seen = server.seen()
    assert seen.count("PASSWORD 'SCRAM-SHA-256$4096:") >= 8
    assert not [password for password in passwords.values() if password in seen]
    server.sql("create role loud password 'heard by the server 0'")
    assert "heard by the server 0" in server.seen()


@pytest.mark.servers
@needs_server
@pytest.mark.parametrize("fault", ["a Secret is missing", "a password of two lines"])
def test_no_password_changes_unless_all_do(server: Server, fault: str) -> None:
    before = four("before")
    server.mount(before)
    assert server.set_passwords().returncode == 0
    server.mount(four("after"))
    admin = server.folder / "secrets" / "postgres-admin"
    if fault == "a Secret is missing":
        (admin / "password").unlink()
        message = "postgres-admin/password: No such file or directory"
    else:
        (admin / "password").write_text("one\ncreate role intruder")
        message = "postgres-admin: the password has more than one line"
    done = server.set_passwords()
    assert done.returncode != 0
    assert message in done.stderr
    for secret, password in before.items():
        user = USERS.get(secret, "postgres")
        assert server.login(user, password) == user
    assert server.sql("select count(*) from pg_roles where rolname = 'intruder'") == "0\n"


@pytest.mark.servers
@needs_server
def test_stand_in_acts_as_the_app(server: Server) -> None:
    """In a rotation; a second run gives it another password."""
    server.mount(four("app"))
    assert server.set_passwords().returncode == 0
    for password in (PASSWORDS["quotes"], PASSWORDS["umlauts"]):
        server.sql(make_stand_in('the "stand_in":x', "the app", password))
        assert server.login('the "stand_in":x', password) == "the app"
        assert password not in server.seen()


def test_password_of_two_lines_is_no_script() -> None:
    with pytest.raises(KubeError, match=r"^The password of app has more than one line\.$"):
        change_password("app", "one\n\\! id")


def test_16_checksum_needs_the_key_to_be_guessed() -> None:
    login = {"user": "kube_boss", "password": "hunter2"}
    found = keyed_checksum(login, KEY)
    assert re.fullmatch(r"[0-9a-f]{64}", found)
    assert found == keyed_checksum(dict(reversed(login.items())), KEY)
    assert found != keyed_checksum(login, KEY + "x")
    assert found != keyed_checksum(login | {"password": "hunter3"}, KEY)
    with pytest.raises(ValueError, match="a checksum of secrets needs a key"):
        keyed_checksum(login, "")


def test_role_hands_on_keyed_checksums(shared_project: Project, tmp_path: Path) -> None:
    """As preflight computes them of the Secrets that are there: a deploy that finds the same changes nothing."""
    tasks = yaml.safe_load((ROOT / "roles/secrets/tasks/main.yml").read_text())
    handed_on = next(task["ansible.builtin.set_fact"] for task in tasks if "ansible.builtin.set_fact" in task)
    told = "{{ {'all': __secrets_all, 'found': found, 'external': postgres_external_checksum} | to_json }}"
    play = {
        "hosts": "sites",
        "vars_files": [
            f"{ROOT}/roles/{place}/main.yml" for place in ("postgres/defaults", "secrets/defaults", "secrets/vars")
        ],
        "vars": {
            "found": handed_on["secrets_checksums"],
            "vault_postgres_app_password": "hunter2",
            "vault_django_secret_key": KEY,
        },
        "tasks": [{"ansible.builtin.copy": {"content": told, "dest": f"{tmp_path}/told", "mode": "0600"}}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    run = shared_project.run(str(tmp_path / "play.yml"))
    assert run.returncode == 0, run.stdout + run.stderr
    seen = json.loads((tmp_path / "told").read_text())
    assert seen["all"]["postgres-credentials"] == {"user": "kube_boss", "password": "hunter2"}
    assert seen["found"] == {name: keyed_checksum(data, KEY) for name, data in seen["all"].items()}
    passwords = [seen["all"][name]["password"] for name in ("postgres-owner", "postgres-credentials")]
    assert seen["external"] == keyed_checksum(passwords, KEY)
