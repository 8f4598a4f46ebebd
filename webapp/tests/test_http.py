"""Headers, hosts, formats, metrics and notes."""

from __future__ import annotations

import json

import pytest
import servers
from django.conf import settings
from django.test import Client, override_settings
from prometheus_client.openmetrics.parser import text_string_to_metric_families


@pytest.mark.parametrize("path", ["/", "/api/status", "/metrics", "/api/notes", "/nowhere", "/admin/login/"])
def test_headers(database, path):
    headers = Client().get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "*" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert len(headers["X-Request-ID"]) == 32
    if path != "/nowhere":
        assert "no-store" in headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/", "/api/status", "/metrics", "/api/notes", "/admin/", "/static/status/status.css"])
def test_foreign_host(database, path):
    response = Client().get(path, headers={"host": "evil.example"})
    assert response.status_code == 400
    assert b"evil" not in response.content


def test_page_has_nothing_inline(database):
    text = Client().get("/").content.decode()
    assert "style=" not in text
    assert "<style" not in text
    assert " on" + "click" not in text
    assert text.count("<script") == 1
    assert 'src="/static/status/status.' in text


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"),
        ("*/*", "text/html; charset=utf-8"),
        ("", "text/html; charset=utf-8"),
        ("application/json", "application/json"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("image/png", "text/html; charset=utf-8"),
    ],
)
def test_accept(database, accept, expected):
    response = Client().get("/", headers={"accept": accept})
    assert response.headers["Content-Type"] == expected
    assert "Accept" in response.headers["Vary"]


@pytest.mark.parametrize("path", ["/", "/api/status", "/metrics"])
def test_only_reading(database, path):
    assert Client().post(path).status_code == 405
    assert Client().head(path).status_code == 200


def test_request_id_of_a_proxy_is_kept(database):
    assert Client().get("/", headers={"x-request-id": "proxy-12345"}).headers["X-Request-ID"] == "proxy-12345"
    assert Client().get("/", headers={"x-request-id": "a b\nc"}).headers["X-Request-ID"] != "a b\nc"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "client"),
    [
        (0, "192.0.2.1", "127.0.0.1"),
        (1, "", "127.0.0.1"),
        (1, "192.0.2.1", "192.0.2.1"),
        (1, "anything, 192.0.2.1", "192.0.2.1"),
        (2, "anything, 192.0.2.1, 192.0.2.2", "192.0.2.1"),
        (2, "192.0.2.2", "127.0.0.1"),
        (1, "no address", "127.0.0.1"),
    ],
)
def test_client_address_is_what_trusted_proxies_say(database, caplog, proxies, forwarded, client):
    with override_settings(TRUSTED_PROXIES=proxies), caplog.at_level("INFO", logger="request"):
        Client().get("/api/notes", headers={"x-forwarded-for": forwarded})
    assert [record.fields["client"] for record in caplog.records if record.name == "request"] == [client]


def metrics():
    response = Client().get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = text_string_to_metric_families(response.content.decode())
    return {sample.name: sample for family in families for sample in family.samples}


def test_metrics(database):
    found = metrics()
    assert found["site_up"].value == 1
    assert found["site_migrations_pending"].value == 0
    assert found["site_migrations_applied"].value == 32
    assert found["site_database_writable"].value == 1
    assert found["site_release_info"].labels["release"] == "v2"
    assert found["http_requests_total"].value >= 0


def test_metrics_without_database(database, setting):
    setting(PORT=servers.free_port())
    found = metrics()
    assert found["site_up"].value == 0
    assert "site_migrations_pending" not in found, "unknown is not zero"


def post(text, content_type="application/json"):
    return Client(enforce_csrf_checks=True).post("/api/notes", data=text, content_type=content_type)


def test_notes_are_read_only_by_default(database):
    assert post(json.dumps({"text": "hello"})).status_code == 403
    assert Client().get("/api/notes").json() == {"count": 0, "notes": []}


@pytest.fixture
def writable(monkeypatch):
    monkeypatch.setattr(settings, "NOTES_WRITABLE", True)


def test_notes(database, writable):
    response = post(json.dumps({"text": "hello"}))
    assert response.status_code == 201
    found = Client().get("/api/notes").json()
    assert found["count"] == 1
    assert found["notes"][0]["text"] == "hello"


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '{"text": 1}', '{"text": ""}', '{"text": "a\\u0000b"}', '{"text": "\\ud800"}',
             json.dumps({"text": "x" * 201}), "\xff"]
)  # fmt: skip
def test_bad_notes(database, writable, body):
    assert post(body.encode("latin-1")).status_code == 400


def test_large_note(database, writable):
    assert post("x" * 100_000).status_code == 413


def test_notes_without_database(database, setting, writable):
    setting(PORT=servers.free_port())
    assert Client().get("/api/notes").status_code == 503
    assert post(json.dumps({"text": "hello"})).status_code == 503


def test_session_survives_a_new_secret_key(postgres, database, monkeypatch):
    from django.contrib.auth.models import User

    User.objects.create_superuser("admin")
    first, second = Client(), Client()
    for client in (first, second):
        client.force_login(User.objects.get())
    monkeypatch.setattr(settings, "SECRET_KEY_FALLBACKS", [settings.SECRET_KEY])
    monkeypatch.setattr(settings, "SECRET_KEY", "another-" + servers.SECRET_KEY)
    assert first.get("/admin/").status_code == 200
    monkeypatch.setattr(settings, "SECRET_KEY_FALLBACKS", [])
    assert second.get("/admin/").status_code == 302
