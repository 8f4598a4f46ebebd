"""gunicorn with the project, as it runs in the image."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import runpy
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest
import servers


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "in time"
        time.sleep(0.05)


def backends(postgres, site):
    return postgres.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{site.database}'")[0][0]


def test_page_and_its_files(site):
    answer = site.get("/")
    assert answer.status == 200
    files = re.findall(r'(?:href|src)="(/static/[^"]+)"', answer.text)
    assert len(files) == 3
    for path in files:
        assert re.search(r"\.[0-9a-f]{12}\.", path), "hashed"
        file = site.get(path)
        assert file.status == 200
        assert "immutable" in file.headers["Cache-Control"]
    assert site.get("/static/status/nothing.css").status == 404


def test_both_families_of_addresses(site):
    """A cluster may have IPv6 alone, or both. The log tells an IPv4 client by its own address."""
    for address in ("127.0.0.1", "::1"):
        connection = http.client.HTTPConnection(address, site.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", f"/static/{address.replace(':', '-')}", headers={"Host": "localhost"})
            assert connection.getresponse().status == 404
        lines = [line for line in site.log() if line.get("path") == f"/static/{address.replace(':', '-')}"]
        assert [line["client"] for line in lines] == [address]


def test_kernel_without_ipv6(monkeypatch):
    """The configuration is read anew, as gunicorn reads it, where sockets of that family cannot be had."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""))
    assert runpy.run_path(str(servers.WEBAPP / "gunicorn.conf.py"))["bind"] == "[::]:8000"
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    assert runpy.run_path(str(servers.WEBAPP / "gunicorn.conf.py"))["bind"] == "0.0.0.0:8000"


def test_queries_on_the_wire(postgres, site):
    """Two, and the health check of a connection that was used before, once a second."""
    postgres.sql(f"ALTER DATABASE {site.database} SET log_statement = 'all'")
    own = servers.Site(site.env | {"WEB_CONCURRENCY": "1", "GUNICORN_THREADS": "1"})

    def statements():
        before = len(postgres.log())
        own.get("/")
        until(lambda: "FROM django_migrations" in postgres.log()[before:])
        return re.findall(r"LOG:  statement: (.{0,14})", postgres.log()[before:])

    with own:
        own.get("/")
        assert statements() == ["SET LOCAL stat"] * 2
        time.sleep(1)
        assert statements() == ["SELECT 1", "SET LOCAL stat", "SET LOCAL stat"]
    postgres.sql(f"ALTER DATABASE {site.database} RESET log_statement")


def test_connections_persist(postgres, site):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: site.get("/"), range(40)))
    before = backends(postgres, site)
    assert before <= 8, "workers times threads"
    pids = f"SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity WHERE datname = '{site.database}'"
    found = postgres.sql(pids)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: site.get("/"), range(20)))
    assert set(found[0][0]) <= set(postgres.sql(pids)[0][0])


def test_log(site):
    site.get("/?secret=pl4nted", headers={"X-Request-ID": "find-me-123"})
    site.get("/livez")
    site.get("/nowhere")
    lines = site.log()
    found = [line for line in lines if line.get("request_id") == "find-me-123"]
    assert len(found) == 1
    assert found[0] | {"level": "info", "method": "GET", "path": "/", "status": 200, "pod": "web-0"} == found[0]
    assert found[0]["duration_ms"] > 0
    assert found[0]["time"].endswith("+00:00")
    assert not [line for line in lines if line.get("path") in ("/livez", "/readyz")]
    assert len([line for line in lines if "/nowhere" in line["message"]]) == 1
    assert "pl4nted" not in site.log_path.read_text()


def test_metrics_add_up_over_workers(site):
    def count():
        text = site.get("/metrics").text
        return float(re.search(r'http_requests_total\{method="GET",route="/api/notes",status="200"\} (\S+)', text)[1])

    site.get("/api/notes")
    before = count()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: site.get("/api/notes"), range(30)))
    assert [count() - before for _ in range(6)] == [30] * 6, "whichever worker answers"


def test_database_goes_and_comes_back(postgres, site):
    """No worker is replaced, none hangs, and all stay ready to say what is the matter."""
    workers = site.workers()
    assert site.get("/readyz").status == 200
    postgres.stop()
    try:
        answers = [site.get("/") for _ in range(10)]
        assert {answer.status for answer in answers} == {503}
        assert {site.get("/readyz").status for _ in range(10)} == {200}, "whichever worker answers"
        assert site.get("/livez").status == 200
        assert site.get("/api/notes").status == 503
    finally:
        postgres.start()
    until(lambda: site.get("/").status == 200)
    for _ in range(10):
        assert site.get("/").status == 200
    assert site.workers() == workers
    assert "Traceback" not in site.log_path.read_text()


def test_silence_of_the_database_is_bounded(site):
    """Packets are acknowledged, answers never come, for every thread at once."""
    assert site.get("/readyz").status == 200
    time.sleep(1)
    site.network.swallow = True
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: site.get("/"), range(8)))
            assert {answer.status for answer in answers} == {503}
            assert max(answer.seconds for answer in answers) < servers.BOUND
            paths = ["/readyz", "/livez", "/", "/api/notes"] * 15
            answers = list(pool.map(site.get, paths))
            assert [answer.status for answer in answers] == [200, 200, 503, 503] * 15
            assert max(answer.seconds for answer in answers) < servers.BOUND
            assert sum(answer.seconds < 1 for answer in answers) > 45, "one tries, the others are told at once"
    finally:
        site.network.swallow = False
    until(lambda: all(site.get("/").status == 200 for _ in range(10)))


def test_writes(postgres, site):
    made = site.get("/api/notes", {"Content-Type": "application/json"}, "POST", json.dumps({"text": "kept"}))
    assert made.status == 201
    assert postgres.sql("SELECT text FROM notes_note", site.database) == [("kept",)]


def test_web_role_cannot_change_the_schema(postgres, site):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        postgres.sql("CREATE TABLE x (id int)", site.database, "app", servers.PASSWORD)


def test_stops_gracefully(postgres, site):
    """What is being answered is answered; the master leaves with code 0 well within the pod's grace period."""
    answers = []
    with servers.Site(site.env) as own, postgres.connect(site.database) as other:
        other.autocommit = False
        other.cursor().execute("LOCK TABLE notes_note")
        waiting = threading.Thread(target=lambda: answers.append(own.get("/api/notes")))
        waiting.start()
        time.sleep(0.5)
        threading.Timer(1, other.rollback).start()
        start = time.monotonic()
        assert own.stop() == 0
        waiting.join()
    assert answers[0].status == 200
    assert 0.5 < time.monotonic() - start < 5


@pytest.mark.slow
def test_starts_the_tutorials_way(postgres, tmp_path):
    """run.sh migrates as the owner and serves as the app's user."""
    postgres.create("by_run_sh", template="empty")
    password = tmp_path / "owner-password"
    password.write_text(servers.OWNER_PASSWORD)
    env = postgres.app_env("by_run_sh") | {
        "MIGRATE_POSTGRES_USER": "owner",
        "MIGRATE_POSTGRES_PASSWORD_FILE": str(password),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    with servers.Site(env, command=("sh", "run.sh")) as own:
        facts = own.get("/api/status").json()
        assert (facts["status"], facts["database"]["user"]) == ("operational", "app")
        assert "32 migrations applied" in own.log_path.read_text()
        assert "gunicorn" in Path(f"/proc/{own.process.pid}/cmdline").read_text(), "exec: signals reach it"
        assert own.stop() == 0


def test_keep_alive(site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port)
    for _ in range(3):
        connection.request("GET", "/livez")
        response = connection.getresponse()
        response.read()
        assert not response.will_close
    connection.close()


@pytest.mark.parametrize(
    "request_line", ["GET /../../etc/passwd HTTP/1.1", "GET /static/..%2f..%2fmanage.py HTTP/1.1", "BREW / HTTP/1.1",
                     "GET /%00 HTTP/1.1", "GET /" + "a" * 5000 + " HTTP/1.1", "nonsense"]
)  # fmt: skip
def test_odd_requests(site, request_line):
    with socket.create_connection(("127.0.0.1", site.port), 5) as client:
        client.sendall(f"{request_line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    assert re.match(rb"HTTP/1\.1 4\d\d ", answer), answer[:100]
    assert b"Traceback" not in answer


def test_one_process_after_a_killed_worker(site):
    victim = site.workers()[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(site.workers()) == 2 and victim not in site.workers())
    assert site.get("/").status == 200
