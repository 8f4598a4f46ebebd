"""What is used up: disk, memory, threads, connections. The site says so, and is well by itself when there is more."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator

import pytest
import variants
from disturbance import (
    by_the_node,
    disturbed,
    on_node,
    outcomes,
    undone_by,
    wait_until_well,
    web_pods,
)
from scenario import NAMESPACE, URL, changed, items, kubectl, playbook, sql, wait_for
from traffic import Reader, Writer

pytestmark = pytest.mark.long

# Takes every connection that is free, for a while, as the site's own user: there is no other client that could.
TAKER = """
import os, time, psycopg2
end, held, refused = time.monotonic() + {seconds}, [], ""
while time.monotonic() < end:
    try:
        held.append(psycopg2.connect(
            host=os.environ["POSTGRES_HOST"], dbname=os.environ["POSTGRES_DB"], user=os.environ["POSTGRES_USER"],
            password=open("/run/secrets/postgres/password").read(), application_name="taker"))
    except psycopg2.OperationalError as error:
        refused = str(error)
        time.sleep(0.03)
print(len(held), refused)
"""
# A view of a project that somebody wrote without thinking of memory.
HUNGRY = {
    "notes/hungry.py": """
from django.http import HttpResponse
def hungry(request):
    eaten = []
    while True:
        eaten.append(bytearray(b"x") * 10_000_000)
""",
    "kubernetes_django/hungry_urls.py": """
from django.urls import path
from kubernetes_django.urls import urlpatterns as ours
from notes.hungry import hungry
urlpatterns = [path("hungry", hungry), *ours]
""",
    "kubernetes_django/hungry_settings.py": """
from kubernetes_django.settings import *
ROOT_URLCONF = "kubernetes_django.hungry_urls"
""",
}


def test_15_database_volume_full() -> None:
    """A small file system at the site's storage_path: no room for another page, then none for the log either."""
    with (
        small_volume() as ballast,
        disturbed("15 database volume full", patience=400) as cost,
        undone_by(f"rm -f {ballast}", within=240),
    ):
        # To the last byte: cp stops where there is no room.
        on_node("sh", "-c", f"cp /dev/zero {ballast} 2> /dev/null || true")
        full = time.monotonic()
        wait_for(lambda: 503 in outcomes(cost, full, time.monotonic()), 60)
        status, body = Writer(URL).send("POST", "/api/notes", json.dumps({"text": "no room"}))
        assert (status, json.loads(body)["error"]) == (503, "The database's disk is full.")
        # And as much as it takes: without room for another segment of its log PostgreSQL would stop.
        with contextlib.suppress(subprocess.CalledProcessError):
            sql("select pg_switch_wal(); create table big as select generate_series(1, 400000)")
        time.sleep(30)
        said = kubectl("logs", "postgres-0", "--tail=200")
        with contextlib.suppress(subprocess.CalledProcessError):  # a server that stopped at it was started again
            said += kubectl("logs", "postgres-0", "--tail=200", "--previous")
        assert "No space left on device" in said
        cost.ended = time.monotonic()


def test_16_memory_limit_hit_by_one_request() -> None:
    original = variants.base()
    hungry = variants.make("hungry", HUNGRY, original)
    settings = {"DJANGO_NOTES_WRITABLE": "true", "DJANGO_SETTINGS_MODULE": "kubernetes_django.hungry_settings"}
    try:
        changed(deploy(django_image=hungry, django_environment=settings, django_migrations="manual"))
        with disturbed("16 memory limit hit by one request") as cost:
            with contextlib.suppress(OSError):
                status, _ = Reader(URL, timeout=60).send("GET", "/hungry")
                assert status >= 500
            cost.ended = time.monotonic()
        logs = "".join(kubectl("logs", pod, "--tail=1000", "--since=120s") for pod in web_pods())
        # Where the kernel ends the whole container, nobody is left to say so.
        assert "out of memory" in logs or cost.restarts == 1
    finally:
        changed(deploy())


def test_17_slow_requests_from_many_clients() -> None:
    """Each sends a few bytes a second of a request that does not end, and comes again when the site has had enough."""
    place = urllib.parse.urlsplit(URL)
    assert place.hostname == "127.0.0.1"
    request = b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\nX-Slow: " + b"y" * 400
    clients = [SlowClient((place.hostname, place.port), request) for _ in range(300)]
    with disturbed("17 slow requests from 300 clients for half a minute") as cost:
        for _ in range(30):
            for client in clients:
                client.send()
            time.sleep(1)
        cost.ended = time.monotonic()
        for client in clients:
            client.close()
    print(f"{sum(client.came for client in clients)} connections")
    assert cost.failed() == {}
    assert (cost.replaced, cost.restarts) == (0, 0)


class SlowClient:
    """Sends a request, four bytes at a time; over another connection where one was closed."""

    def __init__(self, place: tuple[str, int], request: bytes) -> None:
        self._place, self._request, self._socket, self._sent, self.came = place, request, None, 0, 0

    def send(self) -> None:
        """Send four bytes."""
        if self._socket is None:
            self._socket, self._sent = socket.create_connection(self._place, timeout=5), 0
            self.came += 1
        try:
            self._sent += self._socket.send(self._request[self._sent : self._sent + 4])
        except OSError:
            self.close()

    def close(self) -> None:
        """Go."""
        if self._socket:
            self._socket.close()
        self._socket = None


def test_18_connection_limit_reached_by_others() -> None:
    with disturbed("18 connection limit reached by others for 20 s") as cost:
        pod = web_pods()[0]
        taker = threading.Thread(target=lambda: taken.append(in_web_pod(pod, TAKER.format(seconds=20))))
        taken: list[str] = []
        taker.start()
        wait_for(lambda: others() > 50, 20)
        # What the site holds it keeps. Without that it has none: somebody else is quicker now and then.
        said = set()
        for _ in range(10):
            # Those who are refused take the superuser's own place for a moment, too.
            with contextlib.suppress(subprocess.CalledProcessError):
                sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'kubernetes-%'")
            time.sleep(1)
            said |= {problem["code"] for problem in json.loads(Reader(URL).send("GET", "/api/status")[1])["problems"]}
        taker.join()
        cost.ended = time.monotonic()
    print(f"taken: {taken[0]}")
    assert "too_many_connections" in said
    assert int(taken[0].split()[0]) > 50
    assert cost.healthy_after < 30
    assert (cost.replaced, cost.restarts) == (0, 0)


def in_web_pod(pod: str, program: str) -> str:
    """Run a Python program in a web pod."""
    return kubectl("exec", pod, "-c", "django", "--", "python", "-c", program)


def others() -> int:
    """How many connections the taker has, as far as the server has one left for the question."""
    with contextlib.suppress(subprocess.CalledProcessError):
        return int(sql("select count(*) from pg_stat_activity where application_name = 'taker'"))
    return 0


def deploy(**variables: object) -> subprocess.CompletedProcess[str]:
    """Deploy the site with these variables."""
    return playbook("playbooks/deploy.yml", "-e", json.dumps(variables))


@contextlib.contextmanager
def small_volume() -> Iterator[str]:
    """The database on a file system of 320 MB for the block; the path, on the node, of a file to fill it with."""
    claim = next(each for each in items("persistentvolumeclaims") if each["metadata"]["name"] == "postgres-pvc")
    volume = json.loads(kubectl("get", "persistentvolume", claim["spec"]["volumeName"], "-o", "json"))
    path = volume["spec"]["hostPath"]["path"]
    image, aside = f"{path}.small", f"{path}.aside"
    scale = by_the_node(f"--namespace={NAMESPACE} scale statefulset/postgres --replicas=")
    stop = f"{scale}0 && {by_the_node(f'--namespace={NAMESPACE} wait --for=delete pod/postgres-0 --timeout=150s')}"
    there = (
        f"truncate --size=320M {image} && mkfs.ext4 -q {image} && mkdir -p {aside} && mount -o loop {image} {aside} && "
        f"cp -a {path}/. {aside} && umount {aside} && mount -o loop {image} {path}"
    )
    back = (
        f"if [ -e {image} ]; then {stop} && {{ ! mountpoint -q {path} || umount {path}; }} && "
        f"{{ mountpoint -q {aside} || mount -o loop {image} {aside}; }} && rm -rf {path}/pgdata && "
        f"cp -a {aside}/pgdata {path} && umount {aside} && rm -r {image} {aside} && {scale}1; fi"
    )
    on_node("sh", "-c", back)
    with undone_by(back, within=900):
        on_node("sh", "-c", f"{stop} && {there} && {scale}1")
        wait_until_well(120)
        yield f"{path}/ballast"
    wait_until_well(120)
