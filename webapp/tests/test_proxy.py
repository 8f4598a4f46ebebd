"""What nginx in front of the app hands on, keeps back and limits, and how it ends, with the role's configuration."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import itertools
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import proxies
import pytest
import servers
import yaml

CLIENT, OTHER = "127.0.0.8", "127.0.0.9"
LIES = {
    "X-Forwarded-For": "192.0.2.1, 192.0.2.2, 192.0.2.3",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "444",
    "X-Real-IP": "192.0.2.4",
    "Forwarded": "for=192.0.2.5",
    "X-Request-ID": "from-the-client",
    "X_FORWARDED_FOR": "192.0.2.6",
    "Script_Name": "/evil",
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Site]:
    """Somebody's project, served by gunicorn's threads: those keep connections."""
    port = servers.free_port()
    options = ("--no-control-socket", "--threads=4", f"--bind=127.0.0.1:{port}", "plain:application")
    folder = servers.WEBAPP / "tests"
    with servers.Site({}, port=port, command=(sys.executable, "-m", "gunicorn", *options), folder=folder) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(app: servers.Site) -> Iterator[proxies.Proxy]:
    """As it is by default: clients come to it directly."""
    with proxies.Proxy(app.port) as running:
        yield running


@pytest.fixture(scope="module")
def behind(app: servers.Site) -> Iterator[proxies.Proxy]:
    """Behind two other proxies, the outer one of which speaks TLS; and with small limits."""
    variables = {
        "django_behind_tls": True,
        "django_trusted_proxies": 2,
        "django_allowed_hosts": ["localhost"],
        "django_proxy_client_connections": 4,
        "django_proxy_header_kilobytes": 16,
        "django_proxy_header_seconds": 2,
        "django_proxy_silence_seconds": 2,
        "django_proxy_answer_seconds": 2,
        "django_proxy_body_megabytes": 1,
        "django_login_paths": ["/admin/login/", "/accounts/login/"],
        "django_logins_per_minute": 6,
        "django_private_paths": ["/metrics"],
    }
    with proxies.Proxy(app.port, variables) as running:
        yield running


def test_every_option_away_from_its_default_is_a_configuration(app: servers.Site) -> None:
    """With those that tests/variables/everything.yml has, nginx starts and answers."""
    given = yaml.safe_load((proxies.ROOT / "tests/variables/everything.yml").read_text())
    variables = {name: value for name, value in given.items() if name.startswith("django_")}
    with proxies.Proxy(app.port, variables) as proxy:
        assert proxy.get("/").status == 200
        assert proxy.get("/metrics.txt").status == 404
        assert [proxy.get("/o/token", method="POST").status for _ in range(7)] == [404] * 6 + [429]


def test_clients_cannot_lie_about_themselves(proxy: proxies.Proxy) -> None:
    told = proxy.get("/headers", LIES | {"Host": "localhost:80"}, client=CLIENT).json()
    assert (told["X-Forwarded-For"], told["X-Real-Ip"]) == (CLIENT, CLIENT)
    assert (told["X-Forwarded-Proto"], told["scheme"]) == ("http", "http")
    assert (told["X-Forwarded-Host"], told["host"]) == ("localhost:80", "localhost:80")
    assert told["X-Request-Id"] == "from-the-client"
    assert not {"Forwarded", "X-Forwarded-Port", "Script-Name"} & set(told)


def test_what_trusted_proxies_say_is_handed_on(behind: proxies.Proxy) -> None:
    """The last two of three addresses were added by them; the client's is the first of those."""
    told = behind.get("/headers", LIES).json()
    assert (told["X-Forwarded-For"], told["X-Real-Ip"]) == ("192.0.2.2", "192.0.2.2")
    assert (told["X-Forwarded-Proto"], told["scheme"]) == ("https", "https")
    assert told["X-Forwarded-Host"] == "evil.example"
    # Who comes past them has one address, the real one.
    assert behind.get("/headers", {"X-Forwarded-For": "192.0.2.1"}, client=CLIENT).json()["X-Forwarded-For"] == CLIENT


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/metrics", "/metrics"),
        ("/metrics/", "/metrics/"),
        ("//metrics", "/metrics"),
        ("/%6detrics", "/metrics"),
        ("/admin/login/", "/admin/login/"),
        ("/admin", "/admin"),
        ("/admin/x?y", "/admin/x"),
    ],
)
def test_14_private_paths_are_not_there(proxy: proxies.Proxy, path: str, normal: str) -> None:
    """And the app does not hear of the request, however the path is written."""
    assert proxy.get(path).status == 404
    assert proxy.tells(normal, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/a/../metrics",
        "/./admin/login/",
        "/metrics/../x",
        "/admin/a/%2e%2E/.%2e/x",
        "/admin/..%2fx",
        "/admin%2F../x",
        "/admin/.",
        "/admin/..?y",
        "/admin/..#y",
    ],
)
def test_14_paths_that_nginx_and_the_app_read_differently_are_refused(proxy: proxies.Proxy, path: str) -> None:
    """The proxy takes the dots out before it looks whether a path is private; the app is handed them."""
    assert proxy.get(path).status == 400
    assert proxy.door(proxy.metrics).get(path).status == 400


@pytest.mark.parametrize("path", ["/.well-known/x", "/a..", "/..a/x", "/.../x", "/z?y=/../metrics"])
def test_dots_that_mean_nothing_go_to_the_app(proxy: proxies.Proxy, path: str) -> None:
    assert "Not Found" in proxy.get(path).text
    assert path.partition("?")[0] not in {line["path"] for line in proxy.log()}


def test_private_paths_are_there_by_port_forward(proxy: proxies.Proxy) -> None:
    door = proxy.door(proxy.private)
    assert [door.get(path).status for path in ("/metrics", "/admin/login/", "/")] == [200, 200, 200]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", proxy.private), timeout=5)


def test_similar_paths_are_not_private(proxy: proxies.Proxy, behind: proxies.Proxy) -> None:
    """These go to the app, which has no such page; what left the list is served."""
    for path in ("/administrators", "/metrics.html", "/a/admin"):
        assert "Not Found" in proxy.get(path).text
        assert path not in {line["path"] for line in proxy.log()}
    assert behind.get("/admin/login/").status == 200


def test_a_browser_at_the_forwarded_port_may_send_forms(behind: proxies.Proxy) -> None:
    """The app is told of HTTPS, or it would send the browser there; and so is its check of where a form comes from."""
    door = behind.door(behind.private)
    for origin, told in (("http://localhost:8011", "https://localhost:8011"), ("http://evil.example",) * 2):
        seen = door.get("/headers", {"Host": "localhost:8011", "Origin": origin}).json()
        assert (seen["scheme"], seen["Origin"]) == ("https", told)


def test_16_metrics_have_a_port_of_their_own(proxy: proxies.Proxy, behind: proxies.Proxy) -> None:
    """And nothing else has. The app is asked by a name that it knows, whatever address Prometheus has for it."""
    door = proxy.door(proxy.metrics)
    assert door.get("/metrics", {"Host": "10.0.0.1:8012"}).status == 200
    assert [door.get(path).status for path in ("/", "/admin/login/", "/headers")] == [404, 404, 404]
    assert behind.door(behind.metrics).get("/metrics").status == 200


def test_14_logins_are_limited_for_each_address(behind: proxies.Proxy) -> None:
    def login(client: str, path: str = "/accounts/login/") -> int:
        return behind.get(path, {"X-Forwarded-For": f"{client}, 192.0.2.9"}, "POST", "password=x").status

    # The app refuses a form without a token: 403.
    assert [login("192.0.2.1") for _ in range(8)] == [403] * 6 + [429] * 2
    assert login("192.0.2.1", "/admin/login/") == 429
    assert login("192.0.2.2") == 403
    assert behind.get("/accounts/login/", {"X-Forwarded-For": "192.0.2.1, 192.0.2.9"}).status == 200


def test_requests_of_one_address_are_limited(behind: proxies.Proxy) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            held = stack.enter_context(socket.create_connection(("127.0.0.1", behind.port), source_address=(CLIENT, 0)))
            held.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
        time.sleep(0.2)
        assert behind.get("/", client=CLIENT).status == 429
        assert behind.get("/", client=OTHER).status == 200


@pytest.mark.parametrize(
    ("start", "each", "seconds"),
    [
        # All of the header has to be there in time; a body only has to go on.
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"x", 2),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n", b"", 2),
    ],
)
def test_slow_clients_are_hung_up_on(behind: proxies.Proxy, start: bytes, each: bytes, seconds: float) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", behind.port), timeout=0.3) as connection:
        connection.sendall(start)
        answer = b"none"
        while answer == b"none" and time.monotonic() < began + 15:
            try:
                answer = connection.recv(100)
            except TimeoutError:
                connection.sendall(each)
            except ConnectionResetError:
                answer = b""
    assert answer == b""
    assert seconds - 0.5 < time.monotonic() - began < 15
    assert behind.tells("/", 408)


def test_a_slow_but_honest_client_is_served(behind: proxies.Proxy) -> None:
    """In many pieces, for longer than any pause may be."""
    form = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nin pieces\r\n--b--\r\n'
    head = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n" % len(form)
    with socket.create_connection(("127.0.0.1", behind.port), timeout=20) as connection:
        connection.sendall(head)
        for start in range(0, len(form), 10):
            connection.sendall(form[start : start + 10])
            time.sleep(0.3)
        answer = connection.recv(65536)
    assert b'{"f": 9}' in answer


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Large": "a" * 7000, "X-Larger": "b" * 7000}, 200),
        ({"X-Large": "a" * 9000}, 400),
        ({f"X-Large-{number}": "a" * 7000 for number in range(3)}, 400),
        ({"Content-Length": "2000000"}, 413),
    ],
)
def test_sizes_are_limited(behind: proxies.Proxy, headers: dict[str, str], status: int) -> None:
    assert behind.get("/", headers).status == status


def test_idle_connections_to_the_app_are_not_used_when_it_gives_them_up(proxy: proxies.Proxy) -> None:
    """The app's server closes them after 2 s, and a POST on one that is being closed would fail."""
    for pause in (0.5, 0.95, 1.0, 1.05, 1.9, 1.95, 2.0, 2.05):
        assert proxy.get("/upload", method="POST", body="{}").status == 200
        time.sleep(pause)


def test_connections_of_clients_are_used_again(proxy: proxies.Proxy) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)) as connection:
        for _ in range(3):
            connection.request("GET", "/")
            ports = connection.sock.getsockname()
            assert connection.getresponse().read() == b"ok"
        assert connection.sock.getsockname() == ports


@contextlib.contextmanager
def own_server(answer: bytes, delay: float = 0) -> Iterator[tuple[int, list[bytes]]]:
    """A server that takes one request a connection and answers with these bytes, and then with what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            seen.append(connection.recv(65536))
            key = seen[0].partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            time.sleep(delay)
            connection.sendall(answer.replace(b"ACCEPT", accept))
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_websockets_pass() -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    switched += b"Sec-WebSocket-Accept: ACCEPT\r\n\r\n"
    with own_server(switched) as (port, seen), proxies.Proxy(port) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
            connection.sendall(
                b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
            connection.sendall(b"\x81\x02hi")
            assert connection.recv(100) == b"\x81\x02hi"
        # Other protocols do not: behind HTTP/2 in clear text nobody would look at paths any more.
        proxy.get("/", {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AA"})
        assert b"h2c" not in seen[-1]


def test_an_app_that_is_silent_is_given_up(behind: proxies.Proxy) -> None:
    with own_server(b"", delay=20) as (port, _), proxies.Proxy(port, behind.variables) as proxy:
        assert proxy.get("/").status == 504


def test_end_waits_for_what_was_taken_in(app: servers.Site) -> None:
    """As the kubelet ends it: what is under way is answered, new connections are refused, nothing is left behind."""
    with proxies.Proxy(app.port) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n" + b"x" * 10000)
            time.sleep(0.3)
            proxy.process.send_signal(signal.SIGQUIT)
            time.sleep(0.5)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
            connection.sendall(b"x" * 10000)
            answer = connection.recv(65536)
        # CSRF's check.
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"Connection: close" in answer
        assert proxy.process.wait(10) == 0
        assert list(itertools.chain(Path(proxy.files).rglob("body/*"), Path(proxy.files).rglob("answer/*"))) == []
