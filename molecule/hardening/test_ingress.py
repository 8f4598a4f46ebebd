"""The Ingress, its certificate, and the site behind it, asked as an ingress controller asks.

That is by plain HTTP, with what the client's connection was in X-Forwarded-*.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from scenario import NAMESPACE, changed, items, kubectl, playbook, secret_values

HOST = "site.example.org"
PLACE = urllib.parse.urlsplit(os.environ["SITE_URL"])
CLASS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": NAMESPACE},
    "spec": {"controller": "example.org/nobody"},
}


def deploy(certificate: str, *more: str, **ingress: object) -> subprocess.CompletedProcess[str]:
    """Deploy the site with an Ingress."""
    wanted = {"hosts": [HOST], "class": NAMESPACE, "certificate": certificate} | ingress
    return playbook("playbooks/deploy.yml", "-e", json.dumps({"django_ingress": wanted}), *more)


@pytest.fixture(scope="module", autouse=True)
def behind_ingress() -> Iterator[None]:
    """The site with an Ingress and a certificate of its own CA; afterwards there is none."""
    assert "the cluster has no IngressClass" in deploy("self-signed").stdout
    kubectl("apply", "-f", "-", stdin=json.dumps(CLASS))
    try:
        run = deploy("self-signed")
        assert changed(run) > 0
        assert f"The site answers at https://{HOST}/" in run.stdout
        yield
    finally:
        back = playbook("playbooks/deploy.yml")
        kubectl("delete", "ingressclass", NAMESPACE)
        assert changed(back) > 0
        assert items("ingresses") == []


def ask(path: str, **headers: str) -> http.client.HTTPResponse:
    """A request for HOST as the controller passes it on."""
    connection = http.client.HTTPConnection(PLACE.hostname, PLACE.port, timeout=10)
    connection.request("GET", path, headers={"Host": HOST, "Accept": "application/json"} | headers)
    return connection.getresponse()


TLS = {"X-Forwarded-Proto": "https"}


def test_second_deploy_changes_nothing() -> None:
    assert changed(deploy("self-signed")) == 0


def test_ingress_leads_to_the_service() -> None:
    (ingress,) = items("ingresses")
    assert ingress["spec"]["ingressClassName"] == NAMESPACE
    assert ingress["spec"]["tls"] == [{"hosts": [HOST], "secretName": "kubernetes-django-ingress-tls"}]
    (rule,) = ingress["spec"]["rules"]
    service = rule["http"]["paths"][0]["backend"]["service"]
    assert (rule["host"], service) == (HOST, {"name": "django-service", "port": {"name": "http"}})
    ports = items("services", "--field-selector=metadata.name=django-service")[0]["spec"]["ports"]
    assert "http" in [port["name"] for port in ports]


def test_certificate_is_one_that_clients_accept(tmp_path: Path) -> None:
    """By a real handshake, with nothing but the CA to go by."""
    values = secret_values()
    for key in ("tls.crt", "tls.key"):
        (tmp_path / key).write_text(values[f"kubernetes-django-ingress-tls/{key}"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    client = ssl.create_default_context(cadata=values["kubernetes-django-ingress-ca/ca.crt"])
    for name, accepted in ((HOST, True), ("other.example.org", False)):
        here, there = socket.socketpair()
        thread = threading.Thread(target=shake, args=(server, there), daemon=True)
        thread.start()
        if accepted:
            client.wrap_socket(here, server_hostname=name).close()
        else:
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                client.wrap_socket(here, server_hostname=name)
        here.close()
        thread.join()


def shake(context: ssl.SSLContext, end: socket.socket) -> None:
    """The server's side of a handshake, whatever comes of it."""
    try:
        context.wrap_socket(end, server_side=True).close()
    except OSError:
        end.close()


def test_tls_and_its_headers() -> None:
    answer = ask("/", **TLS)
    assert answer.status == 200
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "Secure" in ask("/admin/login/", **TLS, Accept="text/html").headers["Set-Cookie"]
    assert ask("/", **TLS, Host="evil.example").status == 400


def test_plain_requests_are_sent_to_tls() -> None:
    for headers in ({}, {"X-Forwarded-Proto": "http"}):
        answer = ask("/api/status", **headers)
        assert (answer.status, answer.headers["Location"]) == (301, f"https://{HOST}/api/status")


def test_log_tells_the_client_and_not_what_it_says() -> None:
    """The last address is the one that the controller saw."""
    ask("/asked-by-somebody", **TLS, **{"X-Forwarded-For": "192.0.2.99, 192.0.2.7"})
    lines = kubectl("logs", "-l", "app.kubernetes.io/component=web", "--tail=100").splitlines()
    assert [json.loads(line)["client"] for line in lines if "asked-by-somebody" in line] == ["192.0.2.7"]


def test_certificate_of_somebody_else(tmp_path: Path) -> None:
    """Looked at before anything is touched, and then used."""
    values = secret_values()
    told = deploy("existing", secret="theirs").stdout
    assert "django_ingress: the Secret theirs in namespace" in told
    assert "is not there or lacks tls.crt and tls.key. Make it" in told
    for key in ("tls.crt", "tls.key"):
        (tmp_path / key).write_text(values[f"kubernetes-django-ingress-tls/{key}"])
    kubectl("create", "secret", "tls", "theirs", f"--cert={tmp_path / 'tls.crt'}", f"--key={tmp_path / 'tls.key'}")
    try:
        told = deploy("existing", secret="theirs", hosts=["b.example.org"]).stdout
        assert f"the Secret theirs: the certificate is for {HOST}, not for b.example.org" in told
        assert changed(deploy("existing", secret="theirs")) > 0
        assert items("ingresses")[0]["spec"]["tls"][0]["secretName"] == "theirs"
    finally:
        kubectl("delete", "secret", "theirs")
