"""minikube on a container engine, from an empty home to nothing left, by the commands that a user types.

The tests are one story and run in its order.
"""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

from engines import traces
from engines.commands import changed
from engines.docker import Docker
from engines.podman import Podman
from engines.user import NODE_PORT, ROOT, User, fetch

sys.path.append(str(ROOT / "molecule" / "base"))

from traffic import Reader

pytestmark = pytest.mark.engine
PAGE = "webapp/status/templates/status/page.html"
# The engines' own, with nobody's containers on them.
NETWORKS = {"bridge", "host", "none", "podman"}


@pytest.fixture(scope="module", params=[Docker, Podman])
def user(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    before = traces.look()
    with request.param() as engine, engine.space.joined():
        yield User(tmp_path_factory.mktemp("user"), engine, request.param.__name__.lower())
    assert traces.left() == {"processes": [], "mounts": [], "cgroups": []}
    assert traces.look() == before, "the cluster of this machine was touched"


def address(user: User) -> str:
    """Where the site is, by the command that minikube has for it."""
    text = user.run("minikube", "service", "django-service", "--url", "--profile", user.profile)
    return re.findall(r"(?m)^http://\S+$", text)[-1]


def test_make_deploy_from_an_empty_home(user: User) -> None:
    assert not (user.home / ".kube").exists()
    text = user.run("make", "deploy")
    assert changed(text) > 0
    url = address(user)
    assert urllib.parse.urlsplit(url).port == NODE_PORT
    with urllib.request.urlopen(url, timeout=10) as answer:
        page = answer.read().decode()
    assert answer.status == 200
    assert "System Status" in page
    assert "Operational" in page
    assert fetch(f"{url}/api/status")[1]["database"]["reachable"] is True


def test_second_run_changes_nothing(user: User) -> None:
    pods = user.kubectl("get", "pods", "-o", "name")
    assert changed(user.run("make", "deploy")) == 0
    assert user.kubectl("get", "pods", "-o", "name") == pods


def test_release_fails_no_request(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    url = address(user)
    monkeypatch.setenv("SITE_NODE", urllib.parse.urlsplit(url).hostname)
    page = user.clone / PAGE
    page.write_text(page.read_text().replace("<h1>System Status</h1>", "<h1>System Status, again</h1>"))
    # As stage `release` does: the status page itself answers 503 where a check takes it too long.
    with Reader(url, "/api/notes", rate=20, threads=2) as reader:
        # A worker's first request opens its connection to the database, which on a busy machine took 3 s and a 503.
        time.sleep(10)
        began = time.monotonic()
        user.run("make", "deploy")
    print(reader.figures())
    assert [request for request in reader.failures if request.began >= began] == []
    assert len(reader.requests) > 100
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert "System Status, again" in answer.read().decode()


def test_site_and_its_rows_come_back_with_the_engine(user: User) -> None:
    note = json.dumps({"text": "before the engine stopped"}).encode()
    request = urllib.request.Request(f"{address(user)}/api/notes", note, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 201
    user.engine.stop()
    user.engine.start()
    user.run(".venv/bin/ansible-playbook", "site.yml")
    url = address(user)
    assert fetch(f"{url}/api/status")[1]["status"] == "operational"
    with urllib.request.urlopen(f"{url}/api/notes", timeout=10) as answer:
        assert "before the engine stopped" in answer.read().decode()


def test_make_destroy_stops_the_node_and_keeps_its_volumes(user: User) -> None:
    text = user.run("make", "destroy")
    assert f"The minikube profile {user.profile} is stopped: its node holds the volumes" in text.replace("\n", " ")
    assert user.engine.run("ps", "--quiet").stdout == ""
    assert user.engine.run("volume", "ls", "--quiet").stdout.split() == [user.profile]
    user.run("make", "destroy")


def test_destroy_with_the_data_leaves_nothing(user: User) -> None:
    destroy = [".venv/bin/ansible-playbook", "playbooks/destroy.yml", "-e", "reset_data=true"]
    user.run(*destroy)
    assert user.engine.run("ps", "--all", "--quiet").stdout == ""
    assert user.engine.run("volume", "ls", "--quiet").stdout == ""
    assert set(user.engine.run("network", "ls", "--format", "{{.Name}}").stdout.split()) <= NETWORKS
    assert user.profile not in (user.home / ".kube" / "config").read_text()
    assert not (user.home / ".minikube" / "profiles" / user.profile).exists()
    user.run(*destroy)
    user.run("make", "destroy")
