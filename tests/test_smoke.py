"""What the end of a deploy makes of an answer: right, wrong, or no way from here. Real servers, on 127.0.0.1."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.kubernetes_django.site.plugins.module_utils import smoke
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import KubeError


class Site(BaseHTTPRequestHandler):
    """Answers /200 with 200, and so on."""

    def do_GET(self) -> None:
        self.send_response(int(self.path[1:]))
        self.end_headers()
        self.wfile.write(b"a page")

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve on a port of 127.0.0.1."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_page(status: int) -> None:
    with serving() as port:
        answer = smoke.ask_directly(f"http://127.0.0.1:{port}/{status}")
    assert answer.status == status
    assert answer.said.startswith(f"HTTP {status} ")
    assert answer.said.endswith(": a page")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that no CA of this machine vouches for, and its key behind it."""
    file = tmp_path_factory.mktemp("certificate") / "both.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    make += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "-", "-out", "-"]
    file.write_text(subprocess.run(make, check=True, capture_output=True, text=True).stdout)
    return file


def test_certificate_of_nobody(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(context) as port:
        answer = smoke.ask_directly(f"https://localhost:{port}/200")
        trusted = smoke.ask_directly(f"https://localhost:{port}/200", certificate.read_text())
        other_name = smoke.ask_directly(f"https://127.0.0.1:{port}/200", certificate.read_text())
    # Others may know who signed it: only that this machine does not see the site is known.
    assert (answer.status, answer.wrong) == (0, False)
    assert "self-signed certificate" in answer.said
    assert trusted.status == 200
    assert (other_name.status, other_name.wrong) == (0, True)
    assert "IP address mismatch" in other_name.said


def test_name_that_nobody_knows() -> None:
    answer = smoke.ask_directly("https://nobody.invalid/")
    assert (answer.status, answer.wrong, answer.may_pass) == (0, False, False)
    assert answer.said == "nobody here knows this name"


def test_address_without_a_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that is full lets no connection in, and nobody says so, as where no route leads."""
    monkeypatch.setattr(smoke, "CONNECT_SECONDS", 0.5)
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        answer = smoke.ask_directly(f"http://127.0.0.1:{listener.getsockname()[1]}/200")
    assert (answer.wrong, answer.may_pass) == (False, False)
    assert answer.said == "no answer in time"


def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answer = smoke.ask_directly(f"http://127.0.0.1:{port}/200")
    assert (answer.wrong, answer.may_pass) == (False, True)
    assert answer.said == "Connection refused"


def test_somebody_listens_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "ANSWER_SECONDS", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        answer = smoke.ask_directly(f"http://127.0.0.1:{listener.getsockname()[1]}/200")
    assert (answer.status, answer.wrong) == (0, True)


def test_ipv6() -> None:
    server = ThreadingHTTPServer.__new__(ThreadingHTTPServer)
    server.address_family = socket.AF_INET6
    ThreadingHTTPServer.__init__(server, ("::1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert smoke.ask_directly(f"http://[::1]:{server.server_port}/200").status == 200
    server.shutdown()
    server.server_close()


class Api:
    """An API server that answers so; what a real one says is seen in molecule/clouds."""

    def __init__(self, status: int, text: str | dict) -> None:
        self.answer = status, text if isinstance(text, str) else json.dumps({"kind": "Status"} | text)

    def through_service(self, *_: object) -> tuple[int, str]:
        if not self.answer[0]:
            raise KubeError("No cluster answers at https://127.0.0.1:8443 (context a): timed out")
        return self.answer


def ask(api: Api) -> smoke.Answer:
    return smoke.ask_through_api(api, "site", "django-service", "/", {})


def test_api_server_passes_on_what_the_site_says() -> None:
    assert ask(Api(200, "<html>")).status == 200
    answer = ask(Api(500, '{"detail": "a JSON of the site\'s own"}'))
    assert (answer.status, answer.wrong) == (500, True)


def test_api_server_says_that_nobody_serves() -> None:
    answer = ask(Api(503, {"message": 'no endpoints available for service "django-service"'}))
    assert (answer.status, answer.wrong) == (0, True)
    assert 'no endpoints available for service "django-service"' in answer.said


@pytest.mark.parametrize(
    ("api", "said"),
    [
        (Api(403, {"message": "forbidden"}), "this account may not get services/proxy in namespace site"),
        (Api(503, {"message": "error trying to reach service: dial tcp 10.0.0.1:8000: i/o timeout"}), "i/o timeout"),
        (Api(0, ""), "timed out"),
    ],
)
def test_api_server_cannot_ask(api: Api, said: str) -> None:
    """Says nothing of the site: a firewall between a cloud's control plane and its nodes is nobody's failure."""
    answer = ask(api)
    assert (answer.status, answer.wrong) == (0, False)
    assert said in answer.said
