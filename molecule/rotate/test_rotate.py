"""Passwords, SECRET_KEY, settings and certificate change while the site is in use, and nobody notices."""

from __future__ import annotations

import http.cookiejar
import json
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import pytest
from scenario import URL, ask, begin, changed, items, kubectl, playbook, pods_as_they_are, secret_values
from traffic import Reader, Writer

PASSWORDS = {
    "kube_boss": "postgres-credentials/password",
    "kubernetes_django_owner": "postgres-owner/password",
    "postgres": "postgres-admin/password",
}
# Asks the server for TLS as libpq does, and prints the SHA-256 of the certificate that it shows.
SHOWN_CERTIFICATE = """
import hashlib, socket, ssl
place = socket.create_connection(("postgres-service", 5432))
place.sendall((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))
assert place.recv(1) == b"S"
context = ssl.create_default_context(cafile="/run/secrets/postgres-ca/ca.crt")
served = context.wrap_socket(place, server_hostname="postgres-service").getpeercert(binary_form=True)
print(hashlib.sha256(served).hexdigest())
"""


def sql(statement: str) -> str:
    """Ask the database as the superuser."""
    return kubectl("exec", "postgres-0", "--", "psql", "-U", "postgres", "-d", "kubernetes_django", "-Atc", statement)


def login(user: str, password: str) -> str:
    """Try a login over TCP; return nothing where it worked, else what the server says."""
    script = 'PGPASSWORD="$1" psql -X -h 127.0.0.1 -U "$0" -d kubernetes_django -c "" 2>&1 || true'
    return kubectl("exec", "postgres-0", "--", "sh", "-c", script, user, password).strip()


def in_web_pod(program: str) -> str:
    """Run a Python program in a web pod."""
    return kubectl("exec", "deployment/kubernetes-django", "--", "python", "-c", program)


def extra(**variables: object) -> list[str]:
    """Variables for a playbook."""
    return ["-e", json.dumps(variables)]


class Session:
    """Somebody who is logged in to the admin pages, and keeps asking for one."""

    def __init__(self) -> None:
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.pages: list[str] = []
        self._name = f"boss-{uuid.uuid4().hex[:8]}"
        password = "correct horse 8"
        environment = ["env", f"DJANGO_SUPERUSER_PASSWORD={password}"]
        command = [
            "python",
            "manage.py",
            "createsuperuser",
            "--noinput",
            f"--username={self._name}",
            "--email=a@example.org",
        ]
        kubectl("exec", "deployment/kubernetes-django", "--", *environment, *command)
        page = self._ask("/admin/login/")
        token = page.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
        form = {"csrfmiddlewaretoken": token, "username": self._name, "password": password, "next": "/admin/"}
        self._ask("/admin/login/", urllib.parse.urlencode(form).encode())
        assert self.look() == "in"

    def _ask(self, path: str, data: bytes | None = None) -> str:
        with self._opener.open(f"{URL}{path}", data, timeout=10) as answer:
            return answer.read().decode()

    def look(self) -> str:
        """Ask for a page that only somebody logged in gets; return `in`, `out`, or what went wrong."""
        try:
            return "in" if "Site administration" in self._ask("/admin/") else "out"
        except OSError as error:
            return str(error)

    def _run(self) -> None:
        while not self._ended.wait(0.3):
            self.pages.append(self.look())

    def __enter__(self) -> Session:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def start_and_kill(name: str, moment: str, seconds: float) -> None:
    """Start a playbook, and kill it some seconds after it has said something."""
    with begin(name) as run:
        for line in run.stdout:
            if moment in line:
                time.sleep(seconds)
                run.kill()
    assert run.returncode == -9, f"it ended before it said {moment}"


def test_all_credentials_rotate_under_way_twice_killed() -> None:
    """Killed while the pods take the stand-in, and again between Secret and database; the third run finishes it."""
    before = secret_values()
    with Session() as session, Reader(URL, rate=30) as reader, Writer(URL, rate=10) as writer:
        began = time.monotonic()
        start_and_kill("playbooks/rotate_credentials.yml", "PLAY [Secrets]", 3)
        start_and_kill("playbooks/deploy.yml", "PLAY [Postgres]", 0.3)
        half_way = secret_values()
        run = playbook("playbooks/deploy.yml")
        seconds = time.monotonic() - began
    assert changed(run) > 0
    print(f"rotation, twice killed and run again: {seconds:.0f} s; reader: {reader.figures()}")
    print(f"writer: {writer.figures()}; {len(session.pages)} pages of a session, {session.pages.count('in')} logged in")
    assert "postgres-rotation/password" in half_way
    assert reader.failures == []
    assert writer.failures == []
    assert set(session.pages) == {"in"}
    assert writer.lost(set(sql("select text from notes_note").splitlines())) == []

    after = secret_values()
    assert "postgres-rotation/password" not in after
    for user, name in PASSWORDS.items():
        assert before[name] != after[name]
        assert "password authentication failed" in login(user, before[name])
        assert login(user, after[name]) == ""
    assert before["django-settings/secret-key"] != after["django-settings/secret-key"]
    kept = after["django-fallbacks/secret-key-fallbacks"].split(",")
    assert kept[:2] == [after["django-settings/secret-key"], before["django-settings/secret-key"]]
    assert sql("select rolname from pg_roles where rolname like '%stand_in'") == ""
    mounted = json.dumps([item["spec"]["template"] for item in items("deployments,replicasets")])
    assert "postgres-rotation" not in mounted
    assert changed(playbook("playbooks/deploy.yml")) == 0


def test_value_changed_in_the_vault_is_rotated_by_a_deploy() -> None:
    new = extra(
        secrets_postgres_owner_password="another'one\"$HOME", secrets_postgres_app_password="ünd \\ 'noch' eins"
    )
    with Reader(URL, rate=30) as reader, Writer(URL, rate=10) as writer:
        began = time.monotonic()
        assert changed(playbook("playbooks/deploy.yml", *new)) > 0
        seconds = time.monotonic() - began
        # And back, which is the same again.
        assert changed(playbook("playbooks/deploy.yml")) > 0
    print(f"rotation by a deploy: {seconds:.0f} s; reader: {reader.figures()}; writer: {writer.figures()}")
    assert reader.failures == []
    assert writer.failures == []
    assert "password authentication failed" in login("kube_boss", "ünd \\ 'noch' eins")


def test_settings_reload_without_a_restart_and_restart_where_they_must() -> None:
    before = pods_as_they_are()
    with Reader(URL, rate=30) as reader:
        run = playbook("playbooks/deploy.yml", *extra(postgres_settings={"log_min_duration_statement": "750ms"}))
    assert "The server has loaded what changed, without a restart." in run.stdout
    assert sql("show log_min_duration_statement") == "750ms\n"
    assert sql("show shared_buffers") == "128MB\n"
    assert pods_as_they_are() == before
    assert reader.failures == []

    new = extra(postgres_settings={"max_connections": 90, "work_mem": "5MB"}, postgres_extensions=["pg_trgm"])
    run = playbook("playbooks/deploy.yml", *new)
    assert changed(run) > 0
    assert "These settings take a restart, so the server was restarted: max_connections" in run.stdout
    assert sql("show max_connections") == "90\n"
    assert sql("select extname from pg_extension where extname = 'pg_trgm'") == "pg_trgm\n"
    run = playbook("playbooks/deploy.yml")
    assert "Left in the database, though not in postgres_extensions: pg_trgm" in run.stdout
    assert sql("show max_connections") == "100\n"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"wrok_mem": "4MB"}, 'postgres_settings: unrecognized configuration parameter "wrok_mem"'),
        ({"work_mem": "4 apples"}, 'postgres_settings: invalid value for parameter "work_mem": "4 apples"'),
        ({"ssl": False}, "postgres_settings: ssl is the role's to set. Use postgres_tls."),
    ],
)
def test_wrong_settings_change_nothing(settings: dict, message: str) -> None:
    before = pods_as_they_are()
    run = playbook("playbooks/deploy.yml", *extra(postgres_settings=settings))
    assert run.returncode != 0
    assert message in run.stdout
    assert "Nothing was touched" in run.stdout
    assert "changed=0" in run.stdout
    assert pods_as_they_are() == before


def test_certificate_is_renewed_without_a_restart() -> None:
    before, shown = pods_as_they_are(), in_web_pod(SHOWN_CERTIFICATE)
    with Reader(URL, rate=30) as reader:
        began = time.monotonic()
        assert changed(playbook("playbooks/deploy.yml", *extra(postgres_tls_days=400, postgres_tls_renew_days=380))) > 0
        seconds = time.monotonic() - began
    print(f"certificate renewed in {seconds:.0f} s; reader: {reader.figures()}")
    assert in_web_pod(SHOWN_CERTIFICATE) != shown
    assert pods_as_they_are() == before
    assert reader.failures == []
    assert changed(playbook("playbooks/deploy.yml")) == 0


def test_only_tls_gets_in_and_the_site_verifies_the_server() -> None:
    assert json.loads(ask("/api/status")[1])["database"]["tls"] == "TLSv1.3"
    connect = (
        "import psycopg2; psycopg2.connect(host={host!r}, user='kube_boss', dbname='x', password='x', sslmode={mode!r})"
    )
    for host, mode, message in (
        ("postgres-service", "disable", "no encryption"),
        ("postgres-headless", "verify-full", "does not match host name"),
    ):
        with pytest.raises(subprocess.CalledProcessError) as refused:
            in_web_pod(connect.format(host=host, mode=mode))
        assert message in refused.value.stderr
    # The CA's key is in no pod.
    assert "postgres-ca-key" not in json.dumps([pod["spec"] for pod in items("pods")])


def test_public_has_no_rights() -> None:
    sql("create role anybody login password 'x'")
    try:
        rights = "select {0}('anybody', {1}, {2})"
        for database in ("kubernetes_django", "postgres", "template1"):
            for right in ("connect", "temp"):
                assert sql(rights.format("has_database_privilege", f"'{database}'", f"'{right}'")) == "f\n", database
        for right in ("usage", "create"):
            assert sql(rights.format("has_schema_privilege", "'public'", f"'{right}'")) == "f\n"
        assert sql(rights.format("has_table_privilege", "'notes_note'", "'select'")) == "f\n"
        assert "permission denied for database" in login("anybody", "x")
    finally:
        sql("drop role anybody")


def test_password_that_the_database_does_not_have_is_explained() -> None:
    """The Secret is gone and the vault has another value: nothing says what the password is but the database."""
    before = pods_as_they_are()
    kubectl("delete", "secret", "postgres-credentials")
    run = playbook("playbooks/deploy.yml", "-e", "secrets_postgres_app_password=of-another-vault")
    assert run.returncode != 0
    assert "secrets_postgres_app_password: the database accepts neither this one for kube_boss nor" in run.stdout
    assert "changed=0" in run.stdout
    assert pods_as_they_are() == before
    assert changed(playbook("playbooks/deploy.yml")) == 1

    # The same when it does not run, so that only its start can tell: the data is left as it is.
    assert playbook("playbooks/reset.yml").returncode == 0
    run = playbook("playbooks/deploy.yml", "-e", "secrets_postgres_app_password=of-another-vault")
    assert run.returncode != 0
    assert "The database in the volume has another password for kube_boss than the vault" in run.stdout
    assert changed(playbook("playbooks/deploy.yml")) > 0
    assert ask("/api/status")[0] == 200

    # Changed by hand, and nobody knows it.
    sql("alter role kube_boss password 'forgotten'")
    assert changed(playbook("playbooks/deploy.yml", "-e", "postgres_adopt_passwords=true")) == 0
    assert login("kube_boss", secret_values()["postgres-credentials/password"]) == ""
