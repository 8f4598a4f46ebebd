"""The site behind an Ingress, asked as its users ask: by its name, through a real ingress controller."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path

import controller
import pytest
from scenario import ROOT, changed, items, kubectl, playbook, secret_values
from traffic import Reader

HOST = "site.example.org"
VARIABLES = f"@{ROOT / 'molecule' / 'ingress' / 'vars' / 'ingress.yml'}"
# An address of this machine that nothing else comes from.
CLIENT = "127.0.0.7"


def deploy(**variables: object) -> subprocess.CompletedProcess[str]:
    """Deploy as converge does, with these variables over its own."""
    return playbook("playbooks/deploy.yml", "-e", VARIABLES, "-e", json.dumps(variables))


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[controller.Controller]:
    """The controller, in front of the site as converge left it."""
    with controller.running(tmp_path_factory.mktemp("skipper")) as running:
        yield running


@pytest.fixture(scope="module")
def ca() -> str:
    """The certificate of the CA that the site made for itself."""
    return secret_values()["kubernetes-django-ingress-ca/ca.crt"]


class Visit(http.client.HTTPSConnection):
    """A connection to a name that no name server knows: it leads to the controller. The certificate is verified.

    Args:
        port: where the controller takes TLS.
        ca: the only CA that is trusted, PEM.
        name: of the site.
    """

    def __init__(self, port: int, ca: str, name: str = HOST) -> None:
        self._tls = ssl.create_default_context(cadata=ca)
        super().__init__(name, timeout=10, context=self._tls)
        self._door = ("127.0.0.1", port)

    def connect(self) -> None:
        """Connect, and shake hands."""
        plain = socket.create_connection(self._door, timeout=10, source_address=(CLIENT, 0))
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


class Answer:
    """What came back: status, headers and text."""

    def __init__(
        self, connection: http.client.HTTPConnection, path: str, body: str | None = None, **headers: str
    ) -> None:
        connection.request("GET" if body is None else "POST", path, body, {"Accept": "application/json"} | headers)
        answer = connection.getresponse()
        self.status, self.headers, self.text = answer.status, answer.headers, answer.read().decode()
        connection.close()


def plain(port: int, path: str, **headers: str) -> Answer:
    """A request for the site without TLS."""
    return Answer(http.client.HTTPConnection("127.0.0.1", port, timeout=10), path, **({"Host": HOST} | headers))


def node_port(path: str, **headers: str) -> Answer:
    """A request for the site past the controller."""
    return plain(urllib.parse.urlsplit(os.environ["SITE_URL"]).port, path, **headers)


def test_page_by_tls(edge: controller.Controller, ca: str) -> None:
    answer = Answer(Visit(edge.tls, ca), "/", Accept="text/html")
    assert answer.status == 200
    assert "System Status" in answer.text
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_plain_requests_are_sent_to_tls(edge: controller.Controller) -> None:
    """By the controller, and where there is none by the site; whatever the client says of its connection."""
    for headers in ({}, {"X-Forwarded-Proto": "https"}):
        answer = plain(edge.plain, "/api/status", **headers)
        assert (answer.status, answer.headers["Location"]) == (308, f"https://{HOST}/api/status")
    answer = node_port("/api/status")
    assert (answer.status, answer.headers["Location"]) == (301, f"https://{HOST}/api/status")


def test_log_tells_the_client_and_not_what_it_says(edge: controller.Controller, ca: str) -> None:
    path = f"/{uuid.uuid4()}"
    Answer(Visit(edge.tls, ca), path, **{"X-Forwarded-For": "192.0.2.99"})
    lines = kubectl("logs", "-l", "app.kubernetes.io/component=web", "--tail=100").splitlines()
    assert [json.loads(line)["client"] for line in lines if path in line] == [CLIENT]


def test_forms_are_taken_from_the_site_alone(edge: controller.Controller, ca: str) -> None:
    page = Answer(Visit(edge.tls, ca), "/admin/login/", Accept="text/html")
    cookie = page.headers["Set-Cookie"]
    assert "Secure" in cookie
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
    form = urllib.parse.urlencode({"username": "nobody", "password": "none", "csrfmiddlewaretoken": token})
    headers = {"Cookie": cookie.partition(";")[0], "Content-Type": "application/x-www-form-urlencoded"}
    for origin, status in ((f"https://{HOST}", 200), (f"http://{HOST}", 403), ("https://evil.example", 403)):
        assert Answer(Visit(edge.tls, ca), "/admin/login/", form, **headers, Origin=origin).status == status


def test_foreign_hosts_get_no_page(edge: controller.Controller, ca: str) -> None:
    """Neither from the controller nor from the site."""
    assert Answer(Visit(edge.tls, ca), "/", Host="evil.example").status == 404
    with pytest.raises(ssl.SSLError, match="unrecognized name"):
        Answer(Visit(edge.tls, ca, "evil.example"), "/")
    assert node_port("/", Host="evil.example", **{"X-Forwarded-Proto": "https"}).status == 400


def test_release_under_requests(edge: controller.Controller, ca: str) -> None:
    class Visitors(Reader):
        def connect(self) -> http.client.HTTPConnection:
            return Visit(edge.tls, ca)

    with Visitors("http://127.0.0.1") as visitors:
        run = deploy(django_status_details=False)
        # The controller looks every 3 s; what it does last counts as well.
        time.sleep(4)
    assert changed(run) > 0
    # Nobody here knows the name; the API server asked the site.
    assert f"The site is at https://{HOST}/" in run.stdout
    print(f"\na release through the Ingress: {visitors.figures()}")
    assert visitors.failures == []


def test_class_that_is_not_there() -> None:
    told = deploy(django_ingress={"hosts": [HOST], "class": "nobody", "certificate": "self-signed"}).stdout
    assert "django_ingress: the cluster has no IngressClass nobody, only" in told
    assert "Nothing was touched" in told


def test_certificate_of_somebody_else(edge: controller.Controller, ca: str, tmp_path: Path) -> None:
    """Looked at before anything is touched, and then the one that users get."""
    theirs = {"hosts": [HOST], "class": items("ingresses")[0]["spec"]["ingressClassName"], "secret": "theirs"}
    told = deploy(django_ingress=theirs).stdout
    assert "django_ingress: the Secret theirs in namespace" in told
    assert "is not there or lacks tls.crt and tls.key. Make it" in told
    sign = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    sign += ["-days", "2"]
    other = [*sign, "-subj", "/CN=their CA", "-keyout", tmp_path / "ca.key", "-out", tmp_path / "ca.crt"]
    pair = {"cert": tmp_path / "tls.crt", "key": tmp_path / "tls.key"}
    server = [*sign, "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    server += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", pair["key"], "-out", pair["cert"]]
    for command in (other, [*server, "-CA", tmp_path / "ca.crt", "-CAkey", tmp_path / "ca.key"]):
        subprocess.run(command, check=True, capture_output=True)
    kubectl("create", "secret", "tls", "theirs", *(f"--{name}={path}" for name, path in pair.items()))
    told = deploy(django_ingress=theirs | {"hosts": ["b.example.org"]}).stdout
    assert f"the Secret theirs: the certificate is for {HOST}, not for b.example.org" in told
    changed(deploy(django_ingress=theirs))

    deadline = time.monotonic() + 15
    while True:
        try:
            answer = Answer(Visit(edge.tls, (tmp_path / "ca.crt").read_text()), "/")
            break
        except ssl.SSLCertVerificationError:
            assert time.monotonic() < deadline, edge.log.read_text()
            time.sleep(0.2)
    assert answer.status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        Answer(Visit(edge.tls, ca), "/")


def test_ingress_goes_when_nobody_wants_it() -> None:
    assert changed(playbook("playbooks/deploy.yml")) > 0
    assert items("ingresses") == []
