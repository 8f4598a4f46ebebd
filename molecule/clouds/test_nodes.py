"""Nodes come late, go, and have other addresses: deploys wait for them, and make no release of them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import apply, everywhere
from scenario import NAMESPACE, begin, changed, items, kubectl, playbook, web_pods

NODE = f"{NAMESPACE}-node"


@pytest.fixture
def node() -> Iterator[None]:
    """A node that no kubelet stands behind, and that nothing is scheduled on."""
    taints = [{"key": "example.org/none", "effect": "NoExecute"}]
    spec = {"unschedulable": True, "taints": taints}
    apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "spec": spec})
    yield
    everywhere("delete", "node", NODE, "--ignore-not-found")


def move(address: str) -> None:
    """Give the node another address."""
    status = {"status": {"addresses": [{"type": "InternalIP", "address": address}]}}
    everywhere("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", json.dumps(status))


def test_node_that_comes_moves_and_goes_makes_no_release(node: None) -> None:
    before = [pod["metadata"]["name"] for pod in web_pods()], [job["metadata"]["name"] for job in items("jobs")]
    for address in ("192.0.2.7", "192.0.2.8"):
        move(address)
        assert address in everywhere("get", "node", NODE, "-o", "json")
        assert changed(playbook("playbooks/deploy.yml")) == 0
    everywhere("delete", "node", NODE)
    assert changed(playbook("playbooks/deploy.yml")) == 0
    assert before == (
        [pod["metadata"]["name"] for pod in web_pods()],
        [job["metadata"]["name"] for job in items("jobs")],
    )


def tell(pod: dict, reason: str, message: str) -> None:
    """An event about a pod, as an autoscaler writes it."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    about = {"kind": "Pod", "apiVersion": "v1", "namespace": NAMESPACE}
    about |= {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    apply(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{pod['metadata']['name']}.{reason.lower()}", "namespace": NAMESPACE},
            "involvedObject": about,
            "type": "Normal",
            "reason": reason,
            "message": message,
            "source": {"component": "cluster-autoscaler"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
    )


def without_node() -> list[dict]:
    """The web pods that the scheduler finds no node for."""
    return [
        pod
        for pod in web_pods()
        if any(c["type"] == "PodScheduled" and c["status"] == "False" for c in pod["status"].get("conditions", []))
    ]


def test_node_that_is_being_made_is_waited_for(tmp_path: Path) -> None:
    """A release asks for more than the node has: the autoscaler says that it makes one, then that it cannot."""
    before = [pod["metadata"]["name"] for pod in web_pods()]
    much = {"requests": {"cpu": "64", "memory": "192Mi"}, "limits": {"cpu": "64", "memory": "384Mi"}}
    output = tmp_path / "output"
    variables = {"django_resources": much, "django_connections": 4}
    with (
        output.open("w") as file,
        begin("playbooks/deploy.yml", "-e", json.dumps(variables), output=file.fileno()) as run,
    ):
        # The migrations' Job asks for as much.
        for _ in range(300):
            waiting = without_node() or pending_jobs()
            if waiting or run.poll() is not None:
                break
            time.sleep(0.2)
        assert waiting, output.read_text()
        tell(waiting[0], "TriggeredScaleUp", "pod triggered scale-up: [{pool-a 1->2 (max: 5)}]")
        time.sleep(45)
        assert run.poll() is None, output.read_text()
        tell(waiting[0], "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached")
        run.wait(60)
    said = output.read_text()
    assert run.returncode != 0
    assert re.search(r"waits for a node: pod triggered scale-up: \[\{pool-a 1->2 \(max: 5\)\}\]", said), said
    assert "The autoscaler said: NotTriggerScaleUp: pod didn't trigger scale-up: 1 max node group size reached" in said
    assert before == [pod["metadata"]["name"] for pod in web_pods()]
    assert changed(playbook("playbooks/deploy.yml")) == 0
    assert kubectl("get", "events", "--field-selector=reason=TriggeredScaleUp", "-o", "name")


def pending_jobs() -> list[dict]:
    """The pods of migrations that wait."""
    return items("pods", "-l", "app.kubernetes.io/component=migrations", "--field-selector=status.phase=Pending")
