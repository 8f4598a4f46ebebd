"""The node and what runs on it for everybody. The site recovers by itself, and no row that was acknowledged is lost."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator

import pytest
from disturbance import (
    by_the_node,
    connections,
    disturbed,
    first_process,
    node_name,
    on_node,
    outcomes,
    undone_by,
    web_pods,
)
from scenario import NAME, kubectl, sql, start_minikube, stop_minikube, wait_for

pytestmark = pytest.mark.long

MANIFEST, AWAY = "/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/kubernetes/kube-apiserver.yaml.away"
# All that goes to a pod and comes from it, but for what stays in it.
CUT = ("INPUT ! -i lo -j DROP", "OUTPUT ! -o lo -j DROP")


def test_9_node_drained_and_uncordoned() -> None:
    """There is no other node: the budget keeps the last web pod, until somebody insists."""
    node = node_name()
    # The site's pods alone: what else runs on this node is not the test's to send away.
    drain = ["drain", node, f"--pod-selector=app.kubernetes.io/part-of={NAME}", "--delete-emptydir-data"]
    with disturbed("9 node drained and uncordoned") as cost:
        with undone_by(by_the_node(f"uncordon {node}"), within=180):
            with pytest.raises(subprocess.CalledProcessError) as refused:
                kubectl(*drain, "--timeout=20s")
            assert "would violate the pod's disruption budget" in refused.value.stderr
            assert phases(web_pods()) == ["Pending", "Running"]
            kept = cost.reader.requests[-1].outcome
            kubectl(*drain, "--disable-eviction", "--timeout=90s")
            assert phases(web_pods()) == ["Pending", "Pending"]
        cost.ended = time.monotonic()
    assert kept == 503
    assert cost.replaced == 3


def test_10_kubelet_restarted() -> None:
    before = on_node("pidof", "kubelet")
    # Pods that started less than 10 s before it a kubelet takes for new and not ready; before Kubernetes 1.35 all.
    time.sleep(12)
    with disturbed("10 kubelet restarted") as cost:
        # Its script starts a second one beside one that runs.
        with undone_by("service kubelet status || service kubelet start", within=120):
            on_node("service", "kubelet", "restart")
        # Long enough for each probe to be asked again, and to fail where it would.
        time.sleep(20)
        assert on_node("pidof", "kubelet") != before
    assert cost.failed() == {}
    assert (cost.replaced, cost.restarts) == (0, 0)


def test_10_containerd_restarted() -> None:
    before = on_node("pidof", "containerd")
    with disturbed("10 containerd restarted") as cost:
        with undone_by("service containerd start", within=120):
            on_node("service", "containerd", "restart")
        time.sleep(20)
        assert on_node("pidof", "containerd") != before
    # While it is away nobody can tell the kubelet that a pod is well: a few requests in a thousand may be refused.
    assert cost.write_gap < 2
    assert (cost.replaced, cost.restarts) == (0, 0)


def test_11_api_server_down_for_a_minute() -> None:
    with disturbed("11 API server down for a minute", patience=240) as cost:
        with undone_by(f"[ ! -e {AWAY} ] || mv {AWAY} {MANIFEST}", within=150):
            on_node("mv", MANIFEST, AWAY)
            wait_for(lambda: not api_server_answers(), 60)
            for _ in range(60):
                time.sleep(1)
                assert not api_server_answers()
        cost.ended = time.monotonic()
        wait_for(api_server_answers, 120)
    assert cost.failed() == {}
    assert (cost.replaced, cost.restarts) == (0, 0)


def test_12_coredns_gone_for_a_minute() -> None:
    """And, meanwhile, every connection to the database ended: new ones are to be had without a look-up."""
    scale = "--namespace=kube-system scale deployment/coredns --replicas="
    replicas = kubectl("get", "deployment/coredns", "--namespace=kube-system", "-o", "jsonpath={.spec.replicas}")
    with disturbed("12 CoreDNS gone for a minute, all connections ended meanwhile") as cost:
        with undone_by(by_the_node(f"{scale}{replicas}"), within=150):
            kubectl(*f"{scale}0".split())
            # By itself it would go on answering for half a minute.
            kubectl("delete", "pods", "--namespace=kube-system", "-l", "k8s-app=kube-dns", "--grace-period=1")
            gone = time.monotonic()
            time.sleep(30)
            ended = time.monotonic()
            sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'kube_boss'")
            time.sleep(30)
            cost.ended = time.monotonic()
        kubectl("rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=90s")
    assert outcomes(cost, gone, ended - 1) == {200, 201}
    # Those under way when the connections ended have failed; no later ones.
    assert outcomes(cost, ended + 2, cost.ended) == {200, 201}
    assert cost.restarts == 0


def test_13_minikube_stopped_and_started() -> None:
    with disturbed("13 minikube stopped and started", patience=180) as cost:
        with started_again():
            stop_minikube()
            assert not api_server_answers()
        cost.ended = time.monotonic()
    assert cost.replaced == 0
    # The server, and in each of two web pods the app and nginx.
    assert cost.restarts == 5
    # With a second one beside it, pods would be not ready every now and then.
    loops = on_node("sh", "-c", "pgrep --full '^/bin/bash .*/openrc-restart-wrapper.sh' || true").split()
    assert len(loops) <= 1


def test_14_network_to_the_database_cut() -> None:
    """Packets are dropped, so nobody says no; each request is answered in time all the same."""
    inside = f"nsenter --target {first_process('postgres-0')} --net iptables"
    restored = undone_by("; ".join(f"{inside} -D {rule}" for rule in CUT) + "; true", within=60)
    with disturbed("14 network to the database cut for 30 s, packets dropped") as cost, restored:
        for rule in CUT:
            on_node("sh", "-c", f"{inside} -I {rule}")
        cut = time.monotonic()
        time.sleep(30)
        cost.ended = time.monotonic()
    assert outcomes(cost, cut + 0.5, cost.ended - 3) == {503}
    assert cost.healthy_after < 40
    assert max(request.seconds for request in cost.reader.requests) < 9
    assert (cost.replaced, cost.restarts) == (0, 0)
    # The server forgets the connections whose other ends are gone.
    wait_for(lambda: connections() <= 16, 60)


def phases(pods: list[str]) -> list[str]:
    """The phase of each of these pods."""
    return sorted(kubectl("get", "pod", pod, "-o", "jsonpath={.status.phase}") for pod in pods)


def api_server_answers() -> bool:
    """Whether kubectl gets through to it."""
    try:
        kubectl("get", "--raw", "/readyz", "--request-timeout=3s")
    except subprocess.CalledProcessError:
        return False
    return True


@contextlib.contextmanager
def started_again() -> Iterator[None]:
    """At the end of the block minikube is started, as `make deploy` would start it."""
    try:
        yield
    finally:
        start_minikube()
