"""What the wait for a workload says of it, from the objects and events that a cluster would show.

A stand-in answers for the API server: no cluster on a laptop has an autoscaler, or a disk that nobody makes. What these
objects look like on a real API server is seen in molecule/clouds.
"""

from __future__ import annotations

import datetime
import time
from typing import Any

import pytest
from ansible_collections.kubernetes_django.site.plugins.module_utils import workloads
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.scheduling import Patience


def ago(seconds: float) -> str:
    """A moment as Kubernetes writes it."""
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"


def waiting_for(seconds: float, node_seconds: float = 600) -> Patience:
    """A wait that began so long ago."""
    return Patience(node_seconds, began=time.monotonic() - seconds)


def event(about: str, reason: str, message: str, age: float, kind: str = "Normal", first: float | None = None) -> dict:
    """An event about the object with this uid, told last so many seconds ago."""
    times = {"lastTimestamp": ago(age), "firstTimestamp": ago(age if first is None else first)}
    return {"involvedObject": {"uid": about}, "type": kind, "reason": reason, "message": message} | times


class Cluster:
    """Answers as the API server does, from the objects it is given."""

    def __init__(self, *objects: dict, events: tuple[dict, ...] = (), forbidden: str = "") -> None:
        self.objects, self.events, self.forbidden = objects, events, forbidden

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict | None:
        if kind == self.forbidden:
            raise KubeError(f"{kind} is forbidden", 403)
        return next((o for o in self.objects if (o["kind"], o["metadata"]["name"]) == (kind, name)), None)

    def list(self, kind: str, *_: Any, fields: str = "") -> list[dict]:
        if kind == "Event":
            return [each for each in self.events if each["involvedObject"]["uid"] == fields.rpartition("=")[2]]
        return [each for each in self.objects if each["kind"] == kind]


def pod(status: dict, age: float = 60, spec: dict | None = None) -> dict:
    """A pod of so many seconds."""
    metadata = {"name": "web-1", "namespace": "site", "uid": "pod", "creationTimestamp": ago(age)}
    return {"kind": "Pod", "metadata": metadata, "spec": spec or {"containers": []}, "status": status}


def without_node(seconds: float) -> dict:
    """A pod that has found no node for so long."""
    message = "0/3 nodes are available: 3 Insufficient cpu."
    condition = {"type": "PodScheduled", "status": "False", "message": message, "lastTransitionTime": ago(seconds)}
    return pod({"phase": "Pending", "conditions": [condition]}, seconds)


def job() -> dict:
    """A Job that runs."""
    return {"kind": "Job", "metadata": {"name": "work", "namespace": "site", "uid": "job"}, "spec": {}, "status": {}}


def look(cluster: Cluster, patience: Patience, kind: str = "Job", name: str = "work") -> workloads.State:
    return workloads.look_at(cluster, kind, name, "site", patience)


class Refusing(Cluster):
    """Says this status, the first time it is asked for a Job."""

    def __init__(self, status: int, *objects: dict) -> None:
        super().__init__(*objects)
        self.status, self.asked = status, 0

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict | None:
        self.asked += 1
        if self.asked == 1:
            raise KubeError("etcdserver: leader changed", self.status)
        return super().get(kind, name, namespace)


def look_again(cluster: Cluster, is_late: bool) -> workloads.State:
    return workloads.look_again(cluster, "Job", "work", "site", waiting_for(1), is_late)


@pytest.mark.parametrize("status", [0, 429, 500, 502, 503, 504])
def test_error_of_the_api_server_that_passes_is_asked_again(status: int) -> None:
    """Until the wait's own end: a failure would put back what goes on."""
    cluster = Refusing(status, job())
    assert "leader changed" in look_again(cluster, is_late=False).waiting
    assert "leader changed" not in look_again(cluster, is_late=False).waiting
    with pytest.raises(KubeError):
        look_again(Refusing(status, job()), is_late=True)


@pytest.mark.parametrize("status", [401, 403, 422])
def test_refusal_of_the_api_server_is_an_answer(status: int) -> None:
    with pytest.raises(KubeError):
        look_again(Refusing(status, job()), is_late=False)


SCALES_UP = "pod triggered scale-up: [{pool-a 1->2 (max: 5)}]"


@pytest.mark.parametrize(
    ("reason", "message"),
    [("TriggeredScaleUp", SCALES_UP), ("Nominated", "Pod should schedule on: nodeclaim/default-x7k2p")],
)
def test_node_that_is_being_made_is_waited_for(reason: str, message: str) -> None:
    """By the cluster-autoscaler and by Karpenter, far beyond the patience with other pods."""
    cluster = Cluster(job(), without_node(240), events=(event("pod", reason, message, 200),))
    state = look(cluster, waiting_for(240))
    assert state.failed is None
    assert state.node_is_made
    assert f"pod web-1 waits for a node: {message}" in state.waiting


def test_node_that_is_not_made_in_time() -> None:
    cluster = Cluster(job(), without_node(700), events=(event("pod", "TriggeredScaleUp", SCALES_UP, 650),))
    state = look(cluster, waiting_for(700))
    assert "pod web-1 finds no node: 0/3 nodes are available" in state.failed
    assert f"The autoscaler said 600 s ago (site_node_patience): TriggeredScaleUp: {SCALES_UP}" in state.failed
    assert look(cluster, waiting_for(700, node_seconds=900)).failed is None


def test_autoscaler_that_nominates_for_ever() -> None:
    """Karpenter says it again and again while its nodes do not come up."""
    told = event("pod", "Nominated", "Pod should schedule on: nodeclaim/default-x7k2p", 20, first=650)
    assert "finds no node" in look(Cluster(job(), without_node(700), events=(told,)), waiting_for(700)).failed


def test_autoscaler_that_cannot_help_is_an_answer() -> None:
    """Also where it tried first."""
    refused = "pod didn't trigger scale-up: 1 max node group size reached"
    events = (event("pod", "TriggeredScaleUp", SCALES_UP, 200), event("pod", "NotTriggerScaleUp", refused, 40))
    state = look(Cluster(job(), without_node(240), events=events), waiting_for(240))
    assert f"The autoscaler said: NotTriggerScaleUp: {refused}" in state.failed


def test_no_autoscaler_is_an_answer_after_half_a_minute() -> None:
    assert look(Cluster(job(), without_node(25)), waiting_for(25)).failed is None
    failed = look(Cluster(job(), without_node(35)), waiting_for(35)).failed
    assert failed == "pod web-1 finds no node: 0/3 nodes are available: 3 Insufficient cpu."


def test_pod_of_an_earlier_run_gets_its_time_again() -> None:
    """Somebody may have made room since."""
    assert look(Cluster(job(), without_node(4000)), waiting_for(5)).failed is None


def test_mount_that_failed_on_a_new_node_passes() -> None:
    """The pod is old, for its node was made for it; what its first seconds there say is not the answer."""
    conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": ago(3)}]
    events = (event("pod", "FailedCreatePodSandBox", "network plugin is not ready", 2, "Warning"),)
    cluster = Cluster(job(), pod({"phase": "Pending", "conditions": conditions}, 240), events=events)
    assert look(cluster, waiting_for(240)).failed is None
    conditions[0]["lastTransitionTime"] = ago(40)
    assert look(cluster, waiting_for(240)).failed == "pod web-1: FailedCreatePodSandBox: network plugin is not ready"


def test_slow_pull_after_a_mount_that_failed() -> None:
    conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": ago(40)}]
    events = (
        event("pod", "FailedMount", "secret not found", 39, "Warning"),
        event("pod", "Pulling", "Pulling image", 30),
    )
    cluster = Cluster(job(), pod({"phase": "Pending", "conditions": conditions}), events=events)
    assert look(cluster, waiting_for(60)).failed is None


# --- claims ---


def claim(age: float, class_name: str | None = "fast") -> dict:
    metadata = {"name": "data", "namespace": "site", "uid": "claim", "creationTimestamp": ago(age)}
    spec = {"storageClassName": class_name} if class_name else {}
    return {"kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}


def look_at_claim(cluster: Cluster, patience: Patience) -> workloads.State:
    return look(cluster, patience, "PersistentVolumeClaim", "data")


NOBODY = (
    "Waiting for a volume to be created either by the external provisioner 'example.org/none' or manually by the "
    "system administrator."
)


def test_claim_that_nobody_provisions() -> None:
    told = event("claim", "ExternalProvisioning", NOBODY, 5, first=35)
    state = look_at_claim(Cluster(claim(36), events=(told,)), waiting_for(36))
    assert state.failed == f"ExternalProvisioning: {NOBODY}"


def test_pod_whose_claim_nobody_provisions() -> None:
    """The scheduler waits without a word, and the event about the claim is of the type Normal."""
    told = event("claim", "ExternalProvisioning", NOBODY, 5, first=35)
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    waits = pod({"phase": "Pending"}, 40, {"containers": [], "volumes": volumes})
    state = look(Cluster(job(), waits, claim(40), events=(told,)), waiting_for(40))
    assert state.failed == f"pod web-1: the claim data gets no volume: ExternalProvisioning: {NOBODY}"


def test_provisioner_at_work_is_waited_for() -> None:
    """A disk in a cloud may take a minute; the controller goes on saying that it waits for somebody."""
    events = (
        event("claim", "Provisioning", "External provisioner is provisioning volume for claim", 50),
        event("claim", "ExternalProvisioning", NOBODY, 2, first=50),
    )
    assert look_at_claim(Cluster(claim(50), events=events), waiting_for(50)).failed is None


def test_provisioner_that_fails() -> None:
    events = (
        event("claim", "Provisioning", "External provisioner is provisioning volume for claim", 50),
        event("claim", "ProvisioningFailed", "quota exceeded", 40, "Warning"),
        event("claim", "ExternalProvisioning", NOBODY, 2, first=50),
    )
    cluster = Cluster(claim(50), events=events)
    assert look_at_claim(cluster, waiting_for(50)).failed == "ProvisioningFailed: quota exceeded"
    # Of an earlier run: it may have been mended.
    assert look_at_claim(cluster, waiting_for(3)).failed is None


@pytest.mark.parametrize("reason", ["WaitForFirstConsumer", "WaitForPodScheduled"])
def test_account_that_may_not_read_classes(reason: str) -> None:
    """The claim itself says that it waits for its pod; until then, and for other classes, the wait goes on."""
    told = (event("claim", reason, "waiting for first consumer to be created before binding", 2),)
    assert look_at_claim(Cluster(claim(3), events=told, forbidden="StorageClass"), waiting_for(3)).ready
    state = look_at_claim(Cluster(claim(1), forbidden="StorageClass"), waiting_for(1))
    assert not state.ready
    assert state.failed is None
    assert state.waiting == "is not bound (phase Pending)"


def test_other_refusals_end_the_wait() -> None:
    with pytest.raises(KubeError):
        look_at_claim(Cluster(forbidden="PersistentVolumeClaim"), waiting_for(1))


# --- rollouts ---


def deployment(condition: dict) -> dict:
    metadata = {"name": "web", "namespace": "site", "uid": "web", "generation": 1}
    metadata["annotations"] = {"deployment.kubernetes.io/revision": "1"}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}}
    status = {"observedGeneration": 1, "conditions": [condition]}
    return {"kind": "Deployment", "metadata": metadata, "spec": spec, "status": status}


def replica_set() -> dict:
    metadata = {"name": "web-1", "annotations": {"deployment.kubernetes.io/revision": "1"}}
    return {"kind": "ReplicaSet", "metadata": metadata, "spec": {"selector": {"matchLabels": {}}}}


PROGRESSING = {"type": "Progressing", "status": "True"}


def test_rollout_that_an_earlier_run_gave_up_is_tried_again() -> None:
    """A slow pull has ended since; the condition stands until a pod is ready."""
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    cluster = Cluster(deployment(late | {"lastUpdateTime": ago(300)}), replica_set())
    assert look(cluster, waiting_for(2), "Deployment", "web").failed is None
    assert look(cluster, waiting_for(40), "Deployment", "web").failed == "ProgressDeadlineExceeded: timed out"
    said_now = Cluster(deployment(late | {"lastUpdateTime": ago(1)}), replica_set())
    assert look(said_now, waiting_for(2), "Deployment", "web").failed == "ProgressDeadlineExceeded: timed out"


def test_container_that_never_starts() -> None:
    """Its time begins with the container: neither the pull nor the node counts."""
    probe = {"failureThreshold": 50, "periodSeconds": 1}
    spec = {"containers": [{"name": "django", "startupProbe": probe}]}
    status = {"name": "django", "state": {"running": {"startedAt": ago(40)}}, "started": False, "ready": False}
    waits = pod({"phase": "Running", "containerStatuses": [status | {"restartCount": 0}]}, 300, spec)
    unhealthy = event("pod", "Unhealthy", "Startup probe failed: HTTP probe failed: 500", 1, "Warning")
    cluster = Cluster(deployment(PROGRESSING), replica_set(), waits, events=(unhealthy,))
    assert look(cluster, waiting_for(300), "Deployment", "web").failed is None
    status["state"]["running"]["startedAt"] = ago(51)
    waits["status"]["containerStatuses"] = [status | {"restartCount": 0}]
    failed = look(cluster, waiting_for(300), "Deployment", "web").failed
    assert failed == "pod web-1 runs, but has not started in 50 s: Startup probe failed: HTTP probe failed: 500"


def test_time_to_get_ready_begins_when_the_startup_probe_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that migrates at its start has run for minutes by then."""
    status = {"name": "django", "state": {"running": {"startedAt": ago(300)}}, "started": True, "ready": False}
    spec = {"containers": [{"name": "django", "startupProbe": {"failureThreshold": 600, "periodSeconds": 1}}]}
    lost = {"type": "Ready", "status": "False", "lastTransitionTime": ago(300)}
    container = status | {"restartCount": 0}
    waits = pod({"phase": "Running", "containerStatuses": [container], "conditions": [lost]}, 300, spec)
    unhealthy = event("pod", "Unhealthy", "Readiness probe failed: HTTP probe failed: 503", 1, "Warning")
    cluster = Cluster(deployment(PROGRESSING), replica_set(), waits, events=(unhealthy,))
    now, patience = time.monotonic(), waiting_for(300)
    failed = []
    for seconds in (0, 20, 31):
        monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: now + seconds)
        failed.append(look(cluster, patience, "Deployment", "web").failed)
    expected = "pod web-1 runs, but is not ready in 30 s: Readiness probe failed: HTTP probe failed: 503"
    assert failed == [None, None, expected]


# --- Jobs of an earlier try ---


@pytest.mark.parametrize(
    ("status", "stale"),
    [
        ({"conditions": [{"type": "Failed", "status": "True"}]}, True),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, False),
        ({"active": 1, "ready": 1}, False),
        ({"active": 1, "ready": 0}, True),
    ],
)
def test_job_that_stands_in_the_way(status: dict, stale: bool) -> None:
    assert workloads.job_is_stale(job() | {"status": status}) is stale


def test_job_whose_pod_never_ran() -> None:
    container = {"name": "a", "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull"}}}
    assert not workloads.has_run(pod({"containerStatuses": [container]}))
    assert workloads.has_run(pod({"containerStatuses": [container | {"state": {"terminated": {"exitCode": 1}}}]}))
