"""The page, the JSON and the text in every state that a database can be in."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time

import jsonschema
import pytest
import servers
from django.conf import settings
from django.db import OperationalError, close_old_connections, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from kubernetes_django.bounded_postgresql import deadline
from status import checks

SCHEMA = json.loads((servers.WEBAPP.parent / "docs/status.schema.json").read_text())
SECRETS = (servers.PASSWORD, servers.OWNER_PASSWORD, servers.SECRET_KEY, "pl4nted")


def ask(path="/api/status", **headers):
    """One answer, checked for what must hold in every state."""
    close_old_connections()  # as at the start of every request but the test client's: arms the health check
    start = time.monotonic()
    response = Client().get(path, headers=headers)
    assert time.monotonic() - start < servers.BOUND
    text = response.content.decode()
    for secret in (*SECRETS, "Traceback", "postgresql://", "password="):
        assert secret not in text
    return response


def look(status, code, http_status):
    """The facts, once every form of them has agreed."""
    response = ask()
    facts = response.json()
    jsonschema.validate(facts, SCHEMA)
    assert facts["status"] == status
    assert [problem["code"] for problem in facts["problems"]][:1] == ([code] if code else [])
    assert response.status_code == http_status
    for accept in ("text/html", "text/plain"):
        other = ask("/", accept=accept)
        assert other.status_code == http_status
        assert other.headers["Content-Type"].startswith(accept)
        page = other.content.decode().replace("&quot;", '"').replace("&#x27;", "'")
        assert status.capitalize() in page
        assert facts["reason"] in page
    return facts


def test_operational(database):
    facts = look("operational", None, 200)
    assert (
        facts["database"] | {"reachable": True, "host": "127.0.0.1", "name": database, "user": "app"}
        == facts["database"]
    )
    assert facts["database"]["role"] == "primary"
    assert facts["database"]["connect_ms"] > 0
    assert facts["database"]["query_ms"] > 0
    assert facts["database"]["size_bytes"] > 1_000_000
    assert facts["database"]["connections"]["allowed"] == 37
    assert 1 <= facts["database"]["connections"]["used"] <= 37
    assert facts["migrations"]["applied"] == facts["migrations"]["total"] == 32
    assert facts["migrations"]["latest"]["name"] == "sessions.0001_initial"
    apps = {app["app"] for app in facts["migrations"]["apps"]}
    assert apps == {"admin", "auth", "axes", "contenttypes", "notes", "sessions"}
    assert facts["runtime"]["release"] == "v2"
    assert facts["runtime"]["pod"] == "kubernetes-django-7d9f-abcde"
    assert "backup" not in facts


def test_closed_port(database, setting):
    setting(PORT=servers.free_port())
    facts = look("down", "refused", 503)
    assert facts["reason"].startswith("Nothing listens at 127.0.0.1:")
    assert facts["migrations"] is None


def test_wrong_password(database, setting):
    setting(PASSWORD="wrong-pl4nted")
    assert "password of user app" in look("down", "wrong_password", 503)["reason"]


def test_no_such_database(database, setting):
    setting(NAME="nowhere")
    assert "no database nowhere" in look("down", "no_such_database", 503)["reason"]


def test_unknown_host(database, setting):
    setting(HOST="no-such-host.invalid")
    look("down", "unknown_host", 503)


@pytest.mark.slow
def test_name_server_that_does_not_answer(database, setting, monkeypatch):
    # Here and below, the only stand-ins: a resolver that fails cannot be had without touching the machine's settings.
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(2.5))
    setting(HOST="slow-name-server.invalid")
    response = ask()
    assert response.json()["problems"][0]["code"] == "unknown_host"
    time.sleep(2.6)  # for the resolver's one thread to be free again


def test_name_server_that_is_away_for_a_moment(database, setting, monkeypatch):
    """The database is where it was found last. A host that was never found, or is no more, is nowhere."""

    def answer(code):
        def raise_it(*args, **kwargs):
            raise socket.gaierror(code, "the resolver's words")

        monkeypatch.setattr(socket, "getaddrinfo", raise_it)

    setting(HOST="localhost")
    look("operational", None, 200)
    answer(socket.EAI_AGAIN)
    setting(HOST="localhost")
    look("operational", None, 200)
    setting(HOST="never-found.invalid")
    look("down", "unknown_host", 503)
    answer(socket.EAI_NONAME)
    setting(HOST="localhost")
    look("down", "unknown_host", 503)


def test_lost_first_packet_is_not_waited_for(postgres, database, setting):
    """A connection is begun anew: the kernel would repeat the packet after a second, to where the first one went."""
    waited = []
    for _ in range(3):
        network = servers.Network(postgres.port)
        with servers.black_hole(until=network) as port:
            setting(PORT=port)
            start = time.monotonic()
            connection.ensure_connection()
            waited.append(time.monotonic() - start)
        network.cut()
    # The best one: a busy machine adds some of its own.
    assert 0.2 < min(waited) < 0.9


def test_packets_vanish_before_connecting(database, setting):
    with servers.black_hole() as port:
        setting(PORT=port)
        look("down", "timeout", 503)


def test_packets_vanish_from_a_connection(postgres, database, setting):
    network = servers.Network(postgres.port)
    setting(PORT=network.port)
    look("operational", None, 200)
    network.swallow = True
    response = ask()
    assert response.json()["problems"][0]["code"] == "timeout"
    network.swallow = False
    time.sleep(1)
    look("operational", None, 200)
    network.cut()


def test_deadline_that_was_nearly_over_tells_nothing_of_the_database(postgres, database, setting):
    """A busy machine's readiness probe had 0.1 s left for its statement, and other requests were refused for it."""
    network = servers.Network(postgres.port)
    setting(PORT=network.port)
    look("operational", None, 200)
    network.swallow = True
    with deadline(0.1), pytest.raises(OperationalError, match=r"no answer within 0\.1 s"):
        connection.cursor().execute("select 1")
    network.swallow = False
    assert ask().status_code == 200
    network.cut()


@pytest.mark.slow
def test_slow(postgres, database, setting):
    network = servers.Network(postgres.port)
    setting(PORT=network.port)
    look("operational", None, 200)
    network.delay = 0.3
    facts = look("degraded", "slow", 200)
    assert facts["database"]["query_ms"] > 250
    network.cut()


@pytest.mark.slow
def test_locked_table_is_slow_and_leaves_nothing_behind(postgres, database):
    look("operational", None, 200)
    with contextlib.closing(postgres.connect(database)) as other:
        other.autocommit = False
        other.cursor().execute("LOCK TABLE django_migrations")
        for _ in range(3):
            assert ask().json()["problems"][0]["code"] == "slow"
        count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
        assert postgres.sql(count)[0][0] <= 1, "the statements were ended, not left to wait"
    look("operational", None, 200)


def test_every_connection_taken(postgres, database):
    held = []
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(servers.psycopg2.OperationalError):
            for _ in range(50):
                held.append(
                    stack.enter_context(contextlib.closing(postgres.connect(database, "app", servers.PASSWORD)))
                )
        assert len(held) < 50
        look("down", "too_many_connections", 503)
    time.sleep(0.2)
    look("operational", None, 200)


def test_nearly_every_connection_taken(postgres, database):
    with contextlib.ExitStack() as stack:
        for _ in range(35):
            stack.enter_context(contextlib.closing(postgres.connect(database, "app", servers.PASSWORD)))
        assert look("degraded", "nearly_full", 200)["database"]["connections"]["used"] >= 35
    time.sleep(0.2)


def test_nothing_migrated(postgres, database, setting):
    setting(NAME="empty")
    facts = look("degraded", "no_migrations", 200)
    assert facts["migrations"]["applied"] == 0
    assert len(facts["migrations"]["pending"]) == facts["migrations"]["total"] == 32


def test_pending(postgres, database):
    postgres.sql("DELETE FROM django_migrations WHERE name = '0004_created_at_index'", database)
    facts = look("degraded", "pending_migrations", 200)
    assert facts["reason"] == "1 migration of this release is not applied."
    assert facts["migrations"]["pending"] == ["notes.0004_created_at_index"]


def test_unknown(postgres, database):
    """An older release on a newer schema."""
    postgres.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('notes', '0099_future', now())", database)
    facts = look("degraded", "unknown_migrations", 200)
    assert facts["migrations"]["unknown"] == ["notes.0099_future"]
    assert facts["migrations"]["pending"] == []


def test_leftovers_of_a_removed_app_are_told_but_fine(postgres, database):
    postgres.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('gone', '0001_initial', now())", database)
    assert look("operational", None, 200)["migrations"]["unknown"] == ["gone.0001_initial"]


def test_missing_table(postgres, database):
    postgres.sql("DROP TABLE notes_note", database)
    assert look("degraded", "missing_tables", 200)["database"]["missing_tables"] == ["notes_note"]


def test_no_permission(postgres, database):
    postgres.sql("REVOKE SELECT ON django_migrations FROM app", database)
    look("down", "no_permission", 503)


def test_read_only(postgres, database):
    postgres.sql(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    assert look("degraded", "read_only", 200)["database"]["read_only"] is True


def test_server_restarts(postgres, database):
    look("operational", None, 200)
    postgres.stop()
    try:
        look("down", "refused", 503)
    finally:
        postgres.start()
    look("operational", None, 200)


def test_broken_connection_is_replaced(postgres, database):
    look("operational", None, 200)
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    look("operational", None, 200)


@pytest.mark.parametrize("closed", ["ALLOW_CONNECTIONS false", "CONNECTION LIMIT 0"])
def test_closed_for_a_restore_or_an_upgrade(database, postgres, closed):
    """The page says so, and the pods stay in the Service, or none could."""
    postgres.sql(f"ALTER DATABASE {database} {closed}")
    postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
    try:
        facts = look("down", "paused", 503)
        assert "a backup is being restored" in facts["reason"]
        assert checks.Readiness().ready() is True
    finally:
        postgres.sql(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true CONNECTION LIMIT -1")


def test_unexpected_error_is_told_in_general(database, monkeypatch, caplog):
    monkeypatch.setattr(checks, "_FACTS", "SELECT 'pl4nted'::int, %s, %s")
    look("down", "unexpected", 503)
    assert "invalid input syntax" in caplog.text, "the cause is in the log"


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (None, "degraded", "no_backup"),
        ("{not json", "degraded", "no_backup"),
        ('{"name": "daily", "finished_at": "2020-01-01T00:00:00Z", "size_bytes": 1}', "degraded", "old_backup"),
        ("now", "operational", None),
    ],
)
def test_backup(database, tmp_path, monkeypatch, content, status, code):
    path = tmp_path / "backup.json"
    if content == "now":
        now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        content = json.dumps({"name": "daily", "finished_at": now, "size_bytes": 12_345_678})
    if content:
        path.write_text(content)
    monkeypatch.setattr(settings, "BACKUP_STATUS_FILE", str(path))
    facts = look(status, code, 200)
    assert (facts["backup"]["finished_at"] is None) == (code == "no_backup")


@pytest.mark.parametrize(
    ("comment", "status", "code"),
    [
        ('{"name": "a", "finished_at": "2020-01-01", "size_bytes": 1, "scheduled": true}', "degraded", "old_backup"),
        ('{"name": "a", "finished_at": "2020-01-01", "size_bytes": 1, "scheduled": false}', "operational", None),
        ('{"finished_at": 5}', "degraded", "no_backup"),
    ],
)
def test_backup_noted_in_the_comment(database, postgres, comment, status, code):
    postgres.sql(f"""COMMENT ON DATABASE {database} IS '{{"kubernetes_django": {{"backup": {comment}}}}}'""")
    facts = look(status, code, 200)
    assert facts["backup"]["name"] == (None if code == "no_backup" else "a")


FAILED = '{"finished_at": "2026-01-31T02:00:00Z", "cause": "postgres_backup_s3_endpoint: it\'\'s closed"}'


@pytest.mark.parametrize("what", ["backup", "drill"])
def test_10_failed_backup_and_drill_are_told(database, postgres, what):
    """Where there never was a backup, and after a good one."""
    good = '"backup": {"name": "a", "finished_at": "2026-01-01T02:00:00Z", "size_bytes": 1, "scheduled": false}, '
    good += '"drill": {"finished_at": "2026-01-02T02:00:00Z"}, '
    for before in ("", good) if what == "backup" else (good,):
        told = f'{{"kubernetes_django": {{{before}"failed_{what}": {FAILED}}}}}'
        postgres.sql(f"COMMENT ON DATABASE {database} IS '{told}'")
        facts = look("degraded", f"failed_{what}", 200)
        assert facts["problems"][0]["advice"] == "It said: postgres_backup_s3_endpoint: it's closed"
        failed = "failed_at" if what == "backup" else "drill_failed_at"
        assert facts["backup"][failed] == "2026-01-31T02:00:00.000+00:00"
        assert facts["backup"]["name"] == ("a" if before else None)
        label = "Failed" if what == "backup" else "Drill failed"
        assert re.search(rf"{label} +2026-01-31 02:00 UTC", ask("/", accept="text/plain").content.decode())
        metrics = ask("/metrics").content.decode()
        for each in ("backup", "drill"):
            assert f"site_{each}_failed {1.0 if each == what else 0.0}" in metrics


@contextlib.contextmanager
def begun_days_ago(postgres, database, days):
    """The site's first migration is that old."""
    postgres.sql(f"UPDATE django_migrations SET applied = applied - interval '{days} days'", database)
    try:
        yield
    finally:
        postgres.sql(f"UPDATE django_migrations SET applied = applied + interval '{days} days'", database)


def test_10_schedule_that_never_succeeded_is_told(database, postgres, monkeypatch):
    """As where no pod of it ever started: nobody has noted anything."""
    look("operational", None, 200)
    monkeypatch.setattr(settings, "BACKUP_SCHEDULED", True)
    assert "backup" not in look("operational", None, 200), "it is not due yet"
    with begun_days_ago(postgres, database, 3):
        assert look("degraded", "no_backup", 200)["backup"]["finished_at"] is None
        assert "site_backup_failed 1.0" in ask("/metrics").content.decode()


def test_comment_of_somebody_else_says_nothing_of_backups(database, postgres, monkeypatch):
    postgres.sql(f"COMMENT ON DATABASE {database} IS 'mine'")
    assert "backup" not in look("operational", None, 200)
    with begun_days_ago(postgres, database, 3):
        assert "backup" not in look("operational", None, 200), "nobody asks for backups"
        monkeypatch.setattr(settings, "BACKUP_SCHEDULED", True)
        assert look("degraded", "unknown_backup", 200)["backup"]["finished_at"] is None
        assert "site_backup_failed 1.0" in ask("/metrics").content.decode()


def test_schedule_is_younger_than_the_last_backup(database, postgres, monkeypatch):
    noted = '{"name": "a", "finished_at": "2020-01-01", "size_bytes": 1, "scheduled": false}'
    postgres.sql(f"""COMMENT ON DATABASE {database} IS '{{"kubernetes_django": {{"backup": {noted}}}}}'""")
    look("operational", None, 200)
    monkeypatch.setattr(settings, "BACKUP_SCHEDULED", True)
    look("degraded", "old_backup", 200)


@pytest.mark.parametrize("last", ["none", "old", "new"])
def test_drill_that_told_nothing_is_overdue(database, postgres, monkeypatch, last):
    """As one that is killed, or whose pod never starts; a backup is made all the same."""
    now, old = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - days * 86400)) for days in (0, 8))
    noted = {"backup": {"name": "a", "finished_at": now, "size_bytes": 1, "scheduled": True}}
    if last != "none":
        noted["drill"] = {"finished_at": now if last == "new" else old}
    postgres.sql(f"COMMENT ON DATABASE {database} IS '{json.dumps({'kubernetes_django': noted})}'")
    with begun_days_ago(postgres, database, 9):
        look("operational", None, 200)
        assert "site_drill_failed 0.0" in ask("/metrics").content.decode()
        monkeypatch.setattr(settings, "DRILL_SCHEDULED", True)
        look(*(("operational", None) if last == "new" else ("degraded", "old_drill")), 200)
        assert f"site_drill_failed {0.0 if last == 'new' else 1.0}" in ask("/metrics").content.decode()
        monkeypatch.setattr(settings, "DRILL_MAX_AGE_HOURS", 24 * 31)
        look("operational", None, 200)


def test_drills_that_never_told_anything_are_overdue(database, postgres, monkeypatch):
    """Without a comment, and where only drills are scheduled; a young site has time."""
    monkeypatch.setattr(settings, "DRILL_SCHEDULED", True)
    with begun_days_ago(postgres, database, 6):
        look("operational", None, 200)
    with begun_days_ago(postgres, database, 8):
        look("degraded", "no_backup", 200)


class TestPublic:
    """With DJANGO_STATUS_DETAILS off, nothing that helps an attacker."""

    FORBIDDEN = re.compile(
        r"127\.0\.0\.1|PostgreSQL|\bapp\b|Secret|pg_hba|POSTGRES|v2|Python|gunicorn|7d9f|test_\d|notes"
    )

    @pytest.fixture(autouse=True)
    def public(self, monkeypatch):
        monkeypatch.setattr(settings, "STATUS_DETAILS", False)

    def check(self, status, http_status):
        for path, accept in (("/api/status", "*/*"), ("/", "text/html"), ("/", "text/plain")):
            response = ask(path, accept=accept)
            assert response.status_code == http_status
            text = response.content.decode()
            assert status in text.lower()
            assert not self.FORBIDDEN.findall(text)
        jsonschema.validate(ask().json(), SCHEMA)
        metrics = ask("/metrics").content.decode().replace('route="/api/notes"', "")  # public anyway
        assert not self.FORBIDDEN.findall(metrics)

    def test_operational(self, database):
        self.check("operational", 200)

    def test_degraded(self, postgres, database):
        postgres.sql("DELETE FROM django_migrations WHERE app = 'notes'", database)
        self.check("degraded", 200)

    def test_down(self, database, setting):
        setting(PORT=servers.free_port())
        self.check("down", 503)
        answer = ask("/api/notes")
        assert (answer.status_code, answer.json()) == (503, {"error": "The database does not take part at the moment."})


def test_queries(database):
    """Whatever the number of migrations and apps: two."""
    ask("/")
    with CaptureQueriesContext(connection) as queries:
        ask("/")
    assert len(queries) == 2
    assert sum("django_migrations ORDER BY" in query["sql"] for query in queries) == 1
