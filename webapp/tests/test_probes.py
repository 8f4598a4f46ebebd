"""/livez and /readyz."""

from __future__ import annotations

import time

import pytest
import servers
from django.conf import settings
from django.db import connection
from django.test import Client

from status import probes
from status.checks import Readiness


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(probes, "_readiness", Readiness())


def test_alive_and_ready(database):
    for path in ("/livez", "/readyz"):
        response = Client().get(path)
        assert (response.status_code, response.content) == (200, b"ok")


def test_verbose(database):
    assert Client().get("/livez?verbose").content == b"[+]ping ok\nlivez check passed\n"
    assert Client().get("/readyz?verbose").content == b"[+]ping ok\n[+]database ok\nreadyz check passed\n"


def test_database_down(database, setting):
    setting(PORT=servers.free_port())
    response = Client().get("/readyz")
    assert response.status_code == 503
    assert response.content == b"[+]ping ok\n[-]database failed: reason withheld\nreadyz check failed\n"
    assert Client().get("/livez").status_code == 200


def test_bounded(database, setting):
    with servers.black_hole() as port:
        setting(PORT=port)
        start = time.monotonic()
        assert Client().get("/readyz").status_code == 503
        assert time.monotonic() - start < servers.BOUND


def test_asked_once_a_second_until_it_answers(database, setting):
    port = connection.settings_dict["PORT"]
    setting(PORT=servers.free_port())
    assert Client().get("/readyz").status_code == 503
    setting(PORT=port)
    assert Client().get("/readyz").status_code == 503
    time.sleep(1.01)
    assert Client().get("/readyz").status_code == 200


def test_ready_stays_ready(database, setting):
    """Else an outage of the database would leave the Service without a pod that can say so."""
    assert Client().get("/readyz").status_code == 200
    setting(PORT=servers.free_port())
    time.sleep(1.01)
    assert Client().get("/readyz").status_code == 200


def test_any_host(database):
    """The kubelet asks by the pod's address, which ALLOWED_HOSTS does not know."""
    for host in ("10.1.2.3:8000", "evil.example", "not a host!"):
        for path in ("/livez", "/readyz"):
            assert Client().get(path, headers={"host": host}).status_code == 200


def test_schema_does_not_matter(postgres, database, setting):
    setting(NAME="empty")
    assert Client().get("/readyz").status_code == 200


@pytest.fixture
def waiting(monkeypatch):
    """A process that started a moment ago and waits for the schema."""
    monkeypatch.setattr(settings, "WAIT_FOR_SCHEMA", True)
    monkeypatch.setattr(Readiness, "KEEP", 0)
    monkeypatch.setattr(probes, "_readiness", Readiness())


def test_waits_for_the_schema_until_it_was_reached_once(postgres, database, setting, waiting, caplog):
    """As a pod does that starts before the migrations; a schema that goes back later does not matter."""
    setting(NAME="empty")
    assert Client().get("/readyz").status_code == 503
    assert 'relation "django_migrations" does not exist' in caplog.text
    setting(NAME=database)
    postgres.sql("UPDATE django_migrations SET app = 'away' WHERE name = '0004_created_at_index'", database)
    assert Client().get("/readyz").status_code == 503
    assert "not ready: the database lacks notes.0004_created_at_index" in caplog.text
    postgres.sql("UPDATE django_migrations SET app = 'notes' WHERE app = 'away'", database)
    assert Client().get("/readyz").status_code == 200
    setting(NAME="empty")
    assert Client().get("/readyz").status_code == 200


def test_newer_schema_is_ready(postgres, database, waiting):
    postgres.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('notes', '0099_future', now())", database)
    assert Client().get("/readyz").status_code == 200


def test_methods(database):
    assert Client().head("/livez").status_code == 200
    response = Client().post("/livez")
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")
