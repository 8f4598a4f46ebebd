"""Clients that mean no good, against the real gunicorn: no error of ours, nothing told, and others are served."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time

import pytest

from kubernetes_django.worker import BufferingWorker, is_complete

HEAD = b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def send(site, request: bytes, seconds: float = 20) -> bytes:
    """What the site answers to these very bytes, until it closes or falls silent."""
    answer = b""
    with socket.create_connection(("127.0.0.1", site.port), timeout=seconds) as connection:
        # What is refused early is hung up on before all of it is sent.
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(65536):
                answer += data
        except (ConnectionResetError, BrokenPipeError):
            pass
    return answer


def status(answer: bytes) -> int:
    """The status of the first answer, 0 where the connection was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


def no_leak(answer: bytes) -> None:
    """Neither code nor versions nor a debug page."""
    for told in (b"Traceback", b"site-packages", b"/app/", b"DEBUG", b"gunicorn/", b"Python/", b"SECRET"):
        assert told not in answer


@contextlib.contextmanager
def slow_clients(site, number: int, start: bytes, each: bytes = b"x", pause: float = 0.5):
    """So many clients send `start` at once and then `each` now and then, as long as the block runs."""
    ended = threading.Event()
    connections = []
    for _ in range(number):
        connection = socket.create_connection(("127.0.0.1", site.port), timeout=20)
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


@pytest.mark.parametrize(
    "start",
    [b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", HEAD + b"Content-Length: 60000\r\n\r\n{"],
    ids=["first byte", "headers", "body"],
)
def test_slow_clients_hold_no_thread(site, start):
    """Five times as many as there are threads; with gunicorn's own worker nobody else is answered at all."""
    with slow_clients(site, 40, start):
        time.sleep(1)
        answers = [site.get(path) for path in ("/livez", "/readyz", "/", "/api/notes") * 5]
    assert {answer.status for answer in answers} == {200}
    slowest = max(answer.seconds for answer in answers)
    print(f"slowest of {len(answers)} answers beside 40 slow clients: {slowest:.2f} s")
    assert slowest < 5


@pytest.mark.slow
def test_slow_client_is_hung_up_on(site):
    start = time.monotonic()
    with (
        slow_clients(site, 1, b"GET / HTTP/1.1\r\nX-Slow: ") as (connection,),
        contextlib.suppress(ConnectionResetError),
    ):
        assert connection.recv(10) == b""
    assert BufferingWorker.SECONDS - 1 < time.monotonic() - start < BufferingWorker.SECONDS + 8


def test_slow_but_honest_client_is_served(site):
    """A request in many pieces, and a body after a pause."""
    body = b'{"text": "in pieces"}'
    request = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as connection:
        for start in range(0, len(request), 20):
            connection.sendall(request[start : start + 20])
            time.sleep(0.05)
        assert status(connection.recv(65536)) == 201


def test_connection_is_used_again(site):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)) as connection:
        for _ in range(3):
            connection.request("GET", "/livez")
            ports = connection.sock.getsockname()
            assert connection.getresponse().read() == b"ok"
        assert connection.sock.getsockname() == ports


@pytest.mark.parametrize(
    ("received", "complete"),
    [
        (b"GET / HTTP/1.1\r\n", False),
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (HEAD + b"Content-Length: 3\r\n\r\nab", False),
        (HEAD + b"content-length:3\r\n\r\nabc", True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", True),
        (b"x" * 1000, True),
    ],
)
def test_completeness(received, complete):
    assert is_complete(received, 1000) is complete


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
        (b"GET /admin HTTP/1.1\r\nHost: localhost\r\n\r\n", {301}),
        (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404, 405}),
        (b"PROPFIND / HTTP/1.1\r\nHost: localhost\r\n\r\n", {403, 405}),
        (b"DELETE /api/notes HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
        (b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 405}),
        (b"GET / HTTP/3.9\r\nHost: localhost\r\n\r\n", {400, 505}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {0, 400}),
        (b"\r\n\r\n\r\n", {0, 400}),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {0, 400, 505}),
        (b"POST /admin/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", {403}),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else "",
)
def test_odd_requests(site, request_, expected):
    """Refused for what they are; a 5xx would be ours, and no answer tells what the site is made of."""
    answer = send(site, request_)
    assert status(answer) in expected, answer[:300]
    no_leak(answer)
    assert site.get("/livez").status == 200
