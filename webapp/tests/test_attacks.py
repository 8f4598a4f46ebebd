"""Clients that mean no good, against the real nginx and gunicorn: no error of ours, nothing told, others are served.

Twice: in front of this project, and in front of one that is served by gunicorn as it comes, a single process that does
one thing at a time.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import proxies
import pytest
import servers

HEAD = b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
FORM = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
# Seconds in which others are answered, whatever is going on. docs/network.md promises it.
PROMISED = 2.0
# An address that no attacker comes from.
OTHER = "127.0.0.7"


@dataclass
class Attacked:
    """A pod as its attackers see it: nginx, and the app behind it."""

    proxy: proxies.Proxy
    app: servers.Site
    tmp: Path
    paths: tuple[str, ...]

    def slowest(self) -> float:
        """Seconds that the slowest of others' requests takes, and of probes, which come to the app itself."""
        answers = [self.proxy.get(path, client=OTHER) for path in self.paths * 5]
        answers += [self.app.get(path) for path in ("/livez", "/readyz") * 3]
        assert {answer.status for answer in answers} == {200}
        return max(answer.seconds for answer in answers)

    def leftovers(self) -> list[str]:
        """What lies in the app's /tmp and in nginx's volume, once the last request has ended."""
        for _ in range(100):
            found = [path.name for path in self.tmp.iterdir() if not path.name.startswith("metrics-")]
            found += self.proxy.leftovers()
            if not found:
                break
            time.sleep(0.1)
        return found


def plain_site(tmp: Path) -> servers.Site:
    """A project that is not ours, with nothing but `gunicorn plain`."""
    port = servers.free_port()
    command = (sys.executable, "-m", "gunicorn", "--no-control-socket", f"--bind=127.0.0.1:{port}", "plain:application")
    return servers.Site({"TMPDIR": str(tmp)}, port=port, command=command, folder=servers.WEBAPP / "tests")


@pytest.fixture(scope="module")
def own(postgres: servers.Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """The bundled project behind nginx."""
    tmp = tmp_path_factory.mktemp("own")
    postgres.create("attacked", template="migrated")
    env = postgres.app_env("attacked") | {"DJANGO_NOTES_WRITABLE": "true", "DJANGO_TRUSTED_PROXIES": "1"}
    with servers.Site(env | {"TMPDIR": str(tmp)}) as app, proxies.Proxy(app.port) as proxy:
        yield Attacked(proxy, app, tmp, ("/", "/api/notes", "/static/status/status.css"))
    postgres.drop("attacked")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """Somebody else's project behind nginx."""
    tmp = tmp_path_factory.mktemp("plain")
    with plain_site(tmp) as app, proxies.Proxy(app.port) as proxy:
        yield Attacked(proxy, app, tmp, ("/", "/headers"))


@pytest.fixture(params=["own", "plain"])
def attacked(request: pytest.FixtureRequest) -> Attacked:
    """Both, one after the other."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def site(own: Attacked) -> proxies.Proxy:
    """What the world sees of this project."""
    return own.proxy


def send(site: servers.Door, request: bytes) -> bytes:
    """What the site answers to these very bytes. A client that hangs up is not waited for: only then does this one."""
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", site.port), timeout=20) as connection,
        # What is refused early is hung up on before all of it is sent.
        contextlib.suppress(ConnectionResetError, BrokenPipeError),
    ):
        connection.sendall(request)
        connection.settimeout(1)
        with contextlib.suppress(TimeoutError):
            answer = connection.recv(65536)
            if not answer:
                return answer
        connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(65536):
            answer += data
    return answer


def status(answer: bytes) -> int:
    """The status of the first answer, 0 where the connection was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


def no_leak(answer: bytes) -> None:
    """Neither code nor versions nor a debug page."""
    for told in (b"Traceback", b"site-packages", b"/app/", b"DEBUG", b"gunicorn/", b"Python/", b"SECRET"):
        assert told not in answer


@contextlib.contextmanager
def slow_clients(
    door: servers.Door, number: int, start: bytes, each: bytes = b"x", pause: float = 0.5
) -> Iterator[list[socket.socket]]:
    """So many clients send `start` at once and then `each` now and then, as long as the block runs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ended = threading.Event()
    connections = []
    for _ in range(number):
        connection = socket.create_connection(("127.0.0.1", door.port), timeout=20)
        with contextlib.suppress(OSError):
            connection.sendall(start)
        connections.append(connection)

    def trickle() -> None:
        while not ended.wait(pause):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.sendall(each)

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    try:
        yield connections
    finally:
        ended.set()
        thread.join()
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("number", [16, 300, 2000])
@pytest.mark.parametrize(
    ("start", "pause"),
    [
        (b"G", 0.5),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", 0.5),
        # As much as the header may be, but for its end; and more than that.
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Large: %s\r\n" % (b"a" * 7900) * 3, 2),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Large: %s\r\n" % (b"a" * 8000) * 13, 2),
        (HEAD + b"Content-Length: 60000\r\n\r\n{", 0.5),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\nfff\r\n", 0.5),
        (FORM + b"Content-Length: 4000000\r\n\r\n" + PART, 2),
    ],
    ids=["first byte", "header", "large header", "13 headers of 8 kB", "body", "chunks", "multipart"],
)
def test_12_slow_clients_hold_nobody_up(attacked: Attacked, number: int, start: bytes, pause: float) -> None:
    """Without nginx, as many as there are threads stop the site, and then its probes."""
    with slow_clients(attacked.proxy, number, start, pause=pause):
        time.sleep(1)
        slowest = attacked.slowest()
    print(f"slowest answer beside {number} slow clients: {slowest:.2f} s")
    assert slowest < PROMISED
    assert attacked.leftovers() == []


def test_without_nginx_one_slow_client_is_enough(plain: Attacked) -> None:
    """What the others here would see without it."""
    with slow_clients(plain.app, 1, b"G"), socket.create_connection(("127.0.0.1", plain.app.port)) as other:
        other.settimeout(PROMISED)
        other.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(TimeoutError):
            other.recv(100)


def test_slow_readers_hold_nobody_up(plain: Attacked) -> None:
    """Each asks for 4 MB and takes nothing of it; the one process of the app is free again at once."""
    with slow_clients(plain.proxy, 16, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n", each=b"", pause=5):
        time.sleep(1)
        assert plain.slowest() < PROMISED
    assert plain.leftovers() == []


@pytest.mark.parametrize("body", ["length", "chunks"])
def test_12_large_uploads_are_refused_and_leave_nothing(attacked: Attacked, body: str) -> None:
    """70 MB, 16 times at once, without a login: 413 by the length that is announced, or as soon as it is too much."""
    how = {"length": b"Content-Length: 70000000\r\n\r\n", "chunks": b"Transfer-Encoding: chunked\r\n\r\n"}[body]
    piece = b"x" * 500_000
    pieces = [PART] + [piece if body == "length" else b"%x\r\n%s\r\n" % (len(piece), piece)] * 140
    answers: list[bytes] = []

    def refused() -> int:
        return sum(line["status"] == 413 for line in attacked.proxy.log())

    def upload() -> None:
        with socket.create_connection(("127.0.0.1", attacked.proxy.port), timeout=20) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(FORM + how)
                for each in pieces if body == "length" else pieces[1:]:
                    connection.sendall(each)
            with contextlib.suppress(OSError):
                answers.append(connection.recv(65536))

    before = refused()
    threads = [threading.Thread(target=upload) for _ in range(16)]
    for thread in threads:
        thread.start()
    slowest = attacked.slowest()
    for thread in threads:
        thread.join()
    assert {status(answer) for answer in answers} <= {0, 413}
    assert slowest < PROMISED
    assert attacked.leftovers() == []
    # Of some the answer is lost with the connection, on which the client went on sending. The log has them all.
    end = time.monotonic() + 20
    while refused() < before + 16 and time.monotonic() < end:
        time.sleep(0.1)
    assert refused() == before + 16


def test_upload_within_the_limit_arrives_whole(plain: Attacked) -> None:
    content = "x" * 4_000_000
    form = f'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n{content}\r\n--b--\r\n'
    answer = plain.proxy.get("/upload", {"Content-Type": "multipart/form-data; boundary=b"}, "POST", form)
    assert (answer.status, answer.json()) == (200, {"f": 4_000_000})
    assert plain.leftovers() == []


def test_upload_to_this_project_is_not_kept(own: Attacked) -> None:
    """Nobody is logged in, CSRF's check looks into the form all the same, and no file comes of it."""
    content = "x" * 4_000_000
    form = f'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n{content}\r\n--b--\r\n'
    door = own.proxy.door(own.proxy.private)
    answer = door.get("/admin/login/", {"Content-Type": "multipart/form-data; boundary=b"}, "POST", form)
    assert answer.status == 403
    assert own.leftovers() == []


def test_memory_that_connections_take(plain: Attacked) -> None:
    """As many as there may be, each with as long a header as it may have: the pod's limit holds that and the volume."""
    before = plain.proxy.memory()
    line = b"X-Large: %s\r\n" % (b"a" * 7900)
    with slow_clients(plain.proxy, 4000, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + line * 4, pause=30):
        time.sleep(1)
        taken = plain.proxy.memory()
    print(f"nginx: {before} MiB, with 4000 connections {taken} MiB")
    assert taken < 256 - 64


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", {400}),
        (b"GET / HTTP/1.1\r\n\r\n", {400}),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", {200, 400}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: evil.example\r\n\r\n", {200}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"a" * 9000 + b"\r\n\r\n", {400, 431}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: a\r\n" * 200 + b"\r\n", {400, 431}),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 414}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000, {0, 400, 431}),
        (HEAD + b"Content-Length: 200000\r\n\r\n" + b"a" * 200_000, {400, 413}),
        (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{}", {400, 413}),
        (HEAD + b"Content-Length: -1\r\n\r\n", {400}),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}1234", {400}),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", {0, 400}),
        (HEAD + b"Content-Length: 100\r\n\r\n{", {0, 400}),
        (b"GET /static/../kubernetes_django/settings.py HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
        (b"GET /static/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
        (b"GET /static/..%5c..%5cetc HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
        (b"GET //evil.example/%2e%2e HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
        (b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
        (b"GET /%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
        (b"GET /admin HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
        (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404, 405}),
        (b"PROPFIND / HTTP/1.1\r\nHost: localhost\r\n\r\n", {403, 405}),
        (b"DELETE /api/notes HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
        (b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 405}),
        (b"GET / HTTP/3.9\r\nHost: localhost\r\n\r\n", {400, 505}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {0, 400}),
        (b"\r\n\r\n\r\n", {0, 400}),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {0, 400, 505}),
        (b"POST /admin/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", {404}),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else "",
)
def test_odd_requests(site: proxies.Proxy, request_: bytes, expected: set[int]) -> None:
    """Refused for what they are; a 5xx would be ours, and no answer tells what the site is made of."""
    answer = send(site, request_)
    assert status(answer) in expected, answer[:300]
    no_leak(answer)
    assert site.get("/livez").status == 200
