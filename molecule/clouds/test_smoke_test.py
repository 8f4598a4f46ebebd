"""The end of a deploy asks for the page by a way that exists, and tells a wrong answer from a way that does not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import apply, everywhere
from scenario import NAMESPACE, URL, items, kubectl, playbook


def answer(**arguments: object) -> subprocess.CompletedProcess[str]:
    """The last task of a deploy by itself."""
    place = {"kubeconfig": os.environ["SITE_KUBECONFIG"], "context": os.environ["SITE_CONTEXT"], "namespace": NAMESPACE}
    site = {
        "service": "django-service",
        "path": "/",
        "status": [200],
        "timeout": 3,
        "host": "localhost",
        "hint": "a hint",
    }
    rest = {"behind_tls": False, "given": "", "origins": [], "ca_secret": "", "nodes": []}
    ask = {"kubernetes_django.site.smoke_test": place | site | rest | arguments, "register": "asked"}
    tell = {"ansible.builtin.debug": {"msg": "{{ asked.told }}"}}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([{"hosts": "sites", "tasks": [ask, tell]}], file)
        file.flush()
        return playbook(file.name)


def words(run: subprocess.CompletedProcess[str]) -> str:
    """What a user sees, without the breaks of long lines."""
    return " ".join((run.stdout + run.stderr).split())


def test_through_the_api_server_alone() -> None:
    """As from a laptop that no node's network reaches: green, and the command that opens the site is said."""
    run = answer()
    assert run.returncode == 0, run.stdout + run.stderr
    assert "The site runs, and no node's port leads to it from here. Open it with: a hint" in run.stdout
    assert "WARNING" not in run.stdout + run.stderr


def test_deploy_says_where_the_site_is() -> None:
    run = playbook("playbooks/deploy.yml")
    assert run.returncode == 0, run.stdout
    assert f"The site answers at {URL}/" in run.stdout


def test_site_that_answers_wrongly_fails() -> None:
    run = playbook("playbooks/deploy.yml", "-e", "django_smoke_path=/nothing")
    assert run.returncode != 0
    assert "The Service django-service does not answer /nothing as it should within 20 s" in run.stdout
    assert "asked through the API server with Host localhost: HTTP 404" in run.stdout


def test_host_is_passed_on() -> None:
    """The API server hands the Host to the site, which knows some and refuses the others."""
    run = answer(host="nobody.example.org")
    assert run.returncode != 0
    assert "with Host nobody.example.org: HTTP 400" in run.stdout


def test_service_without_pods_fails() -> None:
    apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "empty", "namespace": NAMESPACE},
            "spec": {"selector": {"app": "nobody"}, "ports": [{"name": "http", "port": 80}]},
        }
    )
    try:
        run = answer(service="empty")
    finally:
        kubectl("delete", "service", "empty")
    assert run.returncode != 0
    assert "the API server says: no endpoints available for service" in words(run)


def test_account_that_may_not_ask(tmp_path: Path) -> None:
    """It is said, and the node port is asked."""
    kubectl("create", "serviceaccount", "stranger")
    try:
        config = json.loads(everywhere("config", "view", "--raw", "--minify", "-o", "json"))
        config["users"][0]["user"] = {"token": kubectl("create", "token", "stranger").strip()}
        (tmp_path / "config").write_text(json.dumps(config))
        alone = answer(kubeconfig=str(tmp_path / "config"))
        by_port = answer(kubeconfig=str(tmp_path / "config"), nodes=[URL])
    finally:
        kubectl("delete", "serviceaccount", "stranger")
    refused = (
        f"could not be asked through the API server: this account may not get services/proxy in namespace {NAMESPACE}"
    )
    for run in (alone, by_port):
        assert run.returncode == 0, run.stdout + run.stderr
        assert refused in words(run)
    assert "Nobody could ask the site from here." in words(alone)
    assert f"The site answers at {URL}/" in by_port.stdout
    assert "Nobody could ask" not in words(by_port)


def test_given_url_that_is_not_reached_is_a_warning() -> None:
    run = answer(given="https://nobody.invalid")
    assert run.returncode == 0, run.stdout + run.stderr
    said = words(run)
    assert "https://nobody.invalid/ cannot be reached from here: nobody here knows this name." in said
    assert "The site is at https://nobody.invalid/, which this machine could not see." in said


def test_given_url_that_answers_wrongly_fails() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        run = answer(given=url)
    assert run.returncode != 0
    assert f"django_url: {url}/ does not answer as it should: no answer in time" in words(run)


@pytest.mark.parametrize(("status", "fails"), [(401, False), (503, False), (404, True), (500, True)])
def test_given_url_where_something_stands_in_front(status: int, fails: bool) -> None:
    """A login in front of a site that is well, or a load balancer that is not ready, ends no deploy."""

    class InFront(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), InFront) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        run = answer(given=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert (run.returncode != 0) == fails, run.stdout + run.stderr
    assert f"HTTP {status}" in words(run)


def test_ingress_that_answers_wrongly_is_a_warning() -> None:
    """Its controller, its certificate or the names may only not be ready yet."""
    run = answer(origins=[f"{URL}/nothing"])
    assert run.returncode == 0, run.stdout + run.stderr
    assert "answers from here otherwise than the site does: HTTP 404" in words(run)


def test_site_behind_tls_is_asked_as_its_proxy_would() -> None:
    """Else it would send every request to HTTPS, and an answer of 301 says little."""
    try:
        run = playbook("playbooks/deploy.yml", "-e", "django_behind_tls=true")
        assert run.returncode == 0, run.stdout
        assert answer(behind_tls=True).returncode == 0
        assert "HTTP 301" in answer(behind_tls=False).stdout
    finally:
        playbook("playbooks/deploy.yml")


def test_both_families_of_addresses_in_the_pod() -> None:
    """A pod of this cluster has IPv6 on its loopback: the site listens on it as well."""
    ask = "import urllib.request; print(urllib.request.urlopen('http://{}:8000/livez').status)"
    for address in ("127.0.0.1", "[::1]"):
        said = kubectl(
            "exec", "deployment/kubernetes-django", "-c", "django", "--", "python", "-c", ask.format(address)
        )
        assert said.strip() == "200"


def test_address_of_the_own_node_is_a_host() -> None:
    """`minikube service` opens the site at it; asked here by the loopback, with the Host that a browser would send."""
    address = items("pods", "-l", "app.kubernetes.io/component=web")[0]["status"]["hostIP"]
    request = urllib.request.Request(URL, headers={"Host": f"{address}:30854"})
    with urllib.request.urlopen(request, timeout=10) as page:
        assert page.status == 200
