"""Each way through the network that is allowed, and each that is not, tried from real pods.

Where the cluster's network plugin does not enforce NetworkPolicies, that is said and the forbidden ways are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator

import pytest
from scenario import NAME, NAMESPACE, ask, items, kubectl, playbook

PROBE = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
    print("open")
except OSError:
    print("closed")
"""


def start(name: str, labels: dict[str, str]) -> None:
    """A pod of the site's image that listens on port 8000, with these labels."""
    web = items("pods", "-l", "app.kubernetes.io/component=web")[0]["spec"]
    container = web["containers"][0]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": web["securityContext"],
            "containers": [
                {
                    "name": "probe",
                    "image": container["image"],
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["timeout", "900", "python3", "-m", "http.server", "8000", "--directory", "/tmp"],
                    "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                    "securityContext": container["securityContext"],
                }
            ],
        },
    }
    place = ["--kubeconfig", os.environ["SITE_KUBECONFIG"], "--context", os.environ["SITE_CONTEXT"], "-n", NAMESPACE]
    subprocess.run(
        ["kubectl", *place, "apply", "-f", "-"], input=json.dumps(pod), text=True, check=True, capture_output=True
    )


@pytest.fixture(scope="module")
def pods() -> Iterator[None]:
    """One pod that is somebody else's; two of the site's, one like a backup's, one like the database's."""
    start("stranger", {"app": "stranger"})
    start("own", {"app.kubernetes.io/part-of": NAME, "app.kubernetes.io/component": "backup"})
    start("server", {"app.kubernetes.io/part-of": NAME, "app.kubernetes.io/component": "database"})
    try:
        kubectl("wait", "--for=condition=Ready", "pod/stranger", "pod/own", "pod/server", "--timeout=90s")
        yield
    finally:
        kubectl("delete", "pod", "stranger", "own", "server", "--ignore-not-found", "--wait=false")


def way(pod: str, host: str, port: int) -> str:
    """Whether a connection from this pod is open or closed: firewalls drop or refuse as they like."""
    return kubectl("exec", pod, "--", "python3", "-c", PROBE, host, str(port)).strip()


def settled(pod: str, host: str, port: int, wanted: str) -> str:
    """The same, once the firewall has heard of the pods: up to 20 s."""
    for _ in range(20):
        found = way(pod, host, port)
        if found == wanted:
            break
        time.sleep(1)
    return found


def address(component: str) -> str:
    """The address of the first pod of a component."""
    return items("pods", "-l", f"app.kubernetes.io/component={component}")[0]["status"]["podIP"]


@pytest.fixture(scope="module")
def enforced(pods: None) -> None:
    """Skips where nobody enforces policies: this project brings kube-router with minikube's driver none only."""
    found = settled("stranger", address("database"), 5432, "closed")
    if found == "open":
        routers = kubectl("get", "daemonsets", "-n", "kube-system", "-o", "name")
        assert "kube-router" not in routers, "kube-router runs, and does not enforce the policies"
        pytest.skip("this cluster's network plugin does not enforce NetworkPolicies")
    assert found == "closed"


def test_users_reach_the_site() -> None:
    assert ask("/api/status")[0] == 200


def test_own_pods_reach_names_and_database(pods: None) -> None:
    assert settled("own", "postgres-service", 5432, "open") == "open"


def test_strangers_reach_the_exposed_port(pods: None) -> None:
    assert settled("stranger", "django-service", 8000, "open") == "open"


def test_strangers_do_not_reach_the_database(enforced: None) -> None:
    assert way("stranger", "postgres-service", 5432) == "closed"
    assert way("stranger", address("database"), 5432) == "closed"


def test_own_pods_reach_nothing_else(enforced: None) -> None:
    """Not the API server, not other ports in kube-system, not the node: all of them answer a pod without policies."""
    node = json.loads(kubectl("get", "nodes", "-o", "json"))["items"][0]["status"]["addresses"][0]["address"]
    dns = json.loads(kubectl("get", "service", "kube-dns", "-n", "kube-system", "-o", "json"))["spec"]["clusterIP"]
    assert way("own", dns, 53) == "open"
    for host, port in ((dns, 9153), ("kubernetes.default", 443), (node, 10250)):
        assert way("stranger", host, port) == "open", f"{host}:{port}"
        assert way("own", host, port) == "closed", f"{host}:{port}"


def test_the_database_reaches_nothing(enforced: None) -> None:
    """Not even names: it answers, and asks nobody. The stranger reaches what it tries."""
    dns = json.loads(kubectl("get", "service", "kube-dns", "-n", "kube-system", "-o", "json"))["spec"]["clusterIP"]
    containers = items("pods", "-l", "app.kubernetes.io/component=web")[0]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for container in containers for port in container.get("ports", [])}
    for host, port in ((dns, 53), (address("web"), ports["http"])):
        assert way("stranger", host, port) == "open", f"{host}:{port}"
        assert way("server", host, port) == "closed", f"{host}:{port}"


def test_preflight_does_not_say_that_nobody_enforces_policies(enforced: None) -> None:
    run = playbook("playbooks/preflight.yml")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "enforce NetworkPolicies" not in run.stdout + run.stderr


def test_nobody_reaches_the_other_pods_of_the_site(enforced: None) -> None:
    """Its own pods neither. Something listens there, as the stranger's own server, which they cannot reach, shows."""
    addresses = {
        pod: items("pods", f"--field-selector=metadata.name={pod}")[0]["status"]["podIP"] for pod in ("own", "stranger")
    }
    assert way("stranger", addresses["stranger"], 8000) == "open"
    assert way("own", addresses["own"], 8000) == "open"
    assert way("stranger", addresses["own"], 8000) == "closed"
    assert way("own", addresses["stranger"], 8000) == "closed"
