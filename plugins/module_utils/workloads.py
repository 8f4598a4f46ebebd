# GNU General Public License v3.0+ (see LICENSE)
"""Says of a workload: ready, still waiting (for what), or failed (why), as soon as the cluster knows."""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.scheduling import (
    PATIENCE_SECONDS,
    Patience,
    age,
    claim_problem,
    condition,
    moment,
    node_is_made,
    node_problem,
    unscheduled,
    waits_for_a_pod,
)

# A container that waits for one of these will not start without somebody's help. ErrImagePull is not among them:
# it may pass, and turns into ImagePullBackOff when it does not.
HOPELESS = {
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
}


@dataclass
class State:
    """What is known of one workload.

    Attributes:
        ready: nothing to wait for any more.
        waiting: what it waits for, one line.
        failed: why it will not become ready, or None.
        pods: its pods, for the report.
        node_is_made: it waits for a node that an autoscaler makes.
    """

    ready: bool
    waiting: str = ""
    failed: str | None = None
    pods: list[dict] = field(default_factory=list)
    node_is_made: bool = False


def look_at(kube: Kube, kind: str, name: str, namespace: str, patience: Patience) -> State:
    """Look at one workload once.

    Args:
        kube: the connection.
        kind: Job, Deployment, StatefulSet or PersistentVolumeClaim.
        name: its name.
        namespace: where it is.
        patience: of the wait that looks.

    Raises:
        KubeError: the API refused, or gave no answer.
        KeyError: a kind there is nothing to wait for.
    """
    judge = {
        "Job": judge_job,
        "Deployment": judge_deployment,
        "StatefulSet": judge_stateful_set,
        "PersistentVolumeClaim": judge_claim,
    }[kind]
    item = kube.get(kind, name, namespace)
    if item is None:
        return State(False, waiting="does not exist yet")
    return judge(kube, item | {"kind": kind}, patience)


def look_again(kube: Kube, kind: str, name: str, namespace: str, patience: Patience, is_late: bool) -> State:
    """As `look_at`; an API server that restarts, or has too much to do, is asked again until it is too late for that.

    Raises:
        KubeError: it is, or the answer is a refusal, which stays one.
    """
    try:
        return look_at(kube, kind, name, namespace, patience)
    except KubeError as error:
        if is_late or not error.may_pass:
            raise
        return State(False, waiting=str(error))


def is_current(item: dict) -> bool:
    """Whether the controller has seen the latest specification."""
    return item.get("status", {}).get("observedGeneration", 0) >= item["metadata"]["generation"]


def is_ready(item: dict) -> bool:
    """Whether an object's own status says that there is nothing to wait for.

    A Deployment: every replica runs the newest template and is available, no old one is left. A StatefulSet: every
    replica runs the newest template and is ready. A Job: Complete. A claim: Bound. Anything else is ready as it is.
    """
    status, wanted = item.get("status") or {}, item.get("spec", {}).get("replicas", 1)
    match item["kind"]:
        case "Deployment":
            counts = ("updatedReplicas", "availableReplicas", "replicas")
            return is_current(item) and all(status.get(count, 0) == wanted for count in counts)
        case "StatefulSet":
            return (
                is_current(item)
                and status.get("readyReplicas", 0) == wanted
                and status.get("currentRevision") == status.get("updateRevision")
            )
        case "Job":
            return job_ended(item) == "Complete"
        case "PersistentVolumeClaim":
            return status.get("phase") == "Bound"
    return True


def job_ended(job: dict) -> str | None:
    """Return Complete or Failed, or None while it runs."""
    for kind in ("Complete", "Failed"):
        if condition(job, kind).get("status") == "True":
            return kind
    return None


def job_is_stale(job: dict) -> bool:
    """Whether a Job stands in the way of the next one of its name.

    It failed; or its pod never ran (no image, no node) and would wait for its next try. One that runs is left alone.
    """
    ended = job_ended(job)
    return ended == "Failed" or (ended is None and not job.get("status", {}).get("ready"))


def judge_job(kube: Kube, job: dict, patience: Patience) -> State:
    """A Job is ready when Complete; it has failed when Failed, or when its pod cannot start."""
    pods = pods_of(kube, job, {"batch.kubernetes.io/job-name": job["metadata"]["name"]})
    ended = job_ended(job)
    if ended == "Complete":
        return State(True, pods=pods)
    if ended == "Failed":
        failed = condition(job, "Failed")
        return State(False, failed=f"{failed.get('reason')}: {failed.get('message')}", pods=pods)
    return from_pods(kube, pods, f"runs ({job.get('status', {}).get('failed', 0)} pods failed so far)", patience)


def judge_deployment(kube: Kube, deployment: dict, patience: Patience) -> State:
    """A Deployment fails when its newest pods cannot start, or when its controller gave up."""
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    if is_ready(deployment):
        return State(True)
    pods = newest_pods(kube, deployment) if is_current(deployment) else []
    for kind, bad in (("ReplicaFailure", "True"), ("Progressing", "False")):
        found = condition(deployment, kind)
        # What was said of an earlier try may have been mended since.
        if is_current(deployment) and found.get("status") == bad and patience.counts(found.get("lastUpdateTime")):
            return State(False, failed=f"{found['reason']}: {found['message']}", pods=pods)
    new, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    state = from_pods(kube, pods, f"{new} of {wanted} pods are new, {available} available", patience)
    for pod in pods:
        state.failed = state.failed or start_problem(kube, pod, patience)
    return state


def newest_pods(kube: Kube, deployment: dict) -> list[dict]:
    """The pods of a Deployment's newest revision."""
    revision = deployment["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision")
    selector = deployment["spec"]["selector"]["matchLabels"]
    newest = [
        s
        for s in kube.list("ReplicaSet", deployment["metadata"]["namespace"], selector)
        if s["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision") == revision
    ]
    return pods_of(kube, deployment, newest[0]["spec"]["selector"]["matchLabels"]) if newest else []


def judge_stateful_set(kube: Kube, stateful_set: dict, patience: Patience) -> State:
    """A StatefulSet fails when its newest pods cannot start, or are refused."""
    status, wanted = stateful_set.get("status", {}), stateful_set["spec"].get("replicas", 1)
    if is_ready(stateful_set):
        return State(True)
    pods = []
    if is_current(stateful_set):
        pods = pods_of(kube, stateful_set, stateful_set["spec"]["selector"]["matchLabels"])
        newest = status.get("updateRevision")
        pods = [p for p in pods if p["metadata"]["labels"].get("controller-revision-hash") == newest]
        if not pods and wanted > 0:
            refused = last_warning(kube, stateful_set)
            if refused and refused.get("reason") == "FailedCreate":
                return State(False, failed=refused["message"])
    return from_pods(kube, pods, f"{status.get('readyReplicas', 0)} of {wanted} pods are ready", patience)


def judge_claim(kube: Kube, claim: dict, patience: Patience) -> State:
    """A claim is ready when Bound, or when its class waits for the first pod."""
    if is_ready(claim):
        return State(True)
    phase = claim.get("status", {}).get("phase")
    if phase == "Lost":
        return State(False, failed="its volume is gone (phase Lost)")
    events = events_of(kube, claim)
    if waits_for_a_pod(events) or class_waits_for_a_pod(kube, claim["spec"].get("storageClassName")):
        return State(True)
    if problem := claim_problem(claim, events, patience):
        return State(False, failed=problem)
    said = f"; {events[-1]['reason']}: {events[-1]['message']}" if events else ""
    return State(False, waiting=f"is not bound (phase {phase}{said})")


def class_waits_for_a_pod(kube: Kube, name: str | None) -> bool:
    """Whether a StorageClass makes a volume only for a pod. An account that may not look learns it from the claim."""
    try:
        found = kube.get("StorageClass", name) if name else None
    except KubeError as error:
        if error.status == 403:
            return False
        raise
    return bool(found) and found.get("volumeBindingMode") == "WaitForFirstConsumer"


def from_pods(kube: Kube, pods: list[dict], waiting: str, patience: Patience) -> State:
    """The state of a workload that is not ready yet: its pods may know that it never will be."""
    said, made = [waiting], False
    for pod in pods:
        # Most pods have their node at once: those that have not are asked for.
        late = patience.is_over(unscheduled(pod).get("lastTransitionTime"))
        events = events_of(kube, pod) if late else []
        if problem := node_problem(pod, events, patience) or pod_problem(kube, pod, patience):
            return State(False, failed=problem, pods=pods)
        node = node_is_made(events, patience)
        made = made or node is not None
        said.append(f"pod {pod['metadata']['name']} waits for a node: {node['message']}" if node else pod_waits(pod))
    return State(False, waiting="; ".join(filter(None, said)), pods=pods, node_is_made=made)


def pod_waits(pod: dict) -> str:
    """What a pod that is not ready is doing, or nothing."""
    if condition(pod, "Ready").get("status") == "True" or pod["status"].get("phase") in ("Succeeded", "Failed"):
        return ""
    if scheduled := unscheduled(pod):
        return f"pod {pod['metadata']['name']} finds no node: {scheduled.get('message')}"
    said = [(each["state"].get("waiting") or {}).get("reason", "") for each in container_statuses(pod)]
    doing = " ".join(filter(None, said)) or pod["status"].get("phase")
    return f"pod {pod['metadata']['name']} is not ready for {age(pod['metadata']['creationTimestamp']):.0f} s ({doing})"


def start_problem(kube: Kube, pod: dict, patience: Patience) -> str | None:
    """What is wrong with a pod that runs, and does not get ready."""
    name = pod["metadata"]["name"]
    allowed = {c["name"]: probe_seconds(c.get("startupProbe")) for c in pod["spec"]["containers"]}
    for status in pod["status"].get("containerStatuses") or []:
        ran = age((status["state"].get("running") or {}).get("startedAt"))
        seconds = allowed[status["name"]]
        if seconds and not status.get("started") and ran > seconds:
            return f"pod {name} runs, but has not started in {seconds} s: {warning_of(kube, pod)}"
    if patience.is_over_for(f"unready {name}", is_unready(pod)):
        return f"pod {name} runs, but is not ready in {PATIENCE_SECONDS} s: {warning_of(kube, pod)}"
    return None


def probe_seconds(probe: dict | None) -> int:
    """How long a startup probe gives a container, in seconds; 0 without one."""
    return probe.get("failureThreshold", 3) * probe.get("periodSeconds", 10) if probe else 0


def is_unready(pod: dict) -> bool:
    """Whether a container runs that has passed its startup probe and is not ready.

    No field says since when: a pod that migrates at its start runs for minutes before that probe passes.
    """
    return any(
        "running" in status["state"] and status.get("started") and not status["ready"]
        for status in pod["status"].get("containerStatuses") or []
    )


def pod_problem(kube: Kube, pod: dict, patience: Patience) -> str | None:
    """Why this pod will not start without help, or None."""
    name = pod["metadata"]["name"]
    if said := container_problem(pod):
        return said
    # A pod that waited for its node for long has only just begun.
    if pod["status"].get("phase") != "Pending" or not patience.is_over(pod["metadata"]["creationTimestamp"]):
        return None
    if problem := volume_problem(kube, pod, patience):
        return f"pod {name}: {problem}"
    if unscheduled(pod) or not patience.is_over(condition(pod, "PodScheduled").get("lastTransitionTime")):
        return None
    newest = events_of(kube, pod)[-1:]
    if newest and newest[0].get("type") == "Warning" and newest[0]["reason"].startswith("Failed"):
        return f"pod {name}: {newest[0]['reason']}: {newest[0]['message']}"
    return None


def container_problem(pod: dict) -> str | None:
    """Which container of a pod will not start without help, and why."""
    for container in container_statuses(pod):
        waiting = container["state"].get("waiting") or {}
        # A second restart, even between two back-offs: a program that died twice at its start dies a third time.
        died = container["restartCount"] >= 2 and not container["ready"] and "running" not in container["state"]
        if waiting.get("reason") in HOPELESS or died:
            ended = (container.get("lastState") or {}).get("terminated") or container["state"].get("terminated") or {}
            code = f" (exit code {ended['exitCode']}, {ended.get('reason')})" if ended else ""
            reason = waiting.get("reason") or "keeps ending"
            said = f"container {container['name']}: {reason}{code} {waiting.get('message', '')}"
            return f"pod {pod['metadata']['name']}, {said}".rstrip()
    return None


def volume_problem(kube: Kube, pod: dict, patience: Patience) -> str | None:
    """Why nobody makes a volume for a claim of this pod, which alone is told of it."""
    for volume in pod["spec"].get("volumes") or []:
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        claim = kube.get("PersistentVolumeClaim", name, pod["metadata"]["namespace"]) if name else None
        if claim and claim["status"].get("phase") == "Pending":
            problem = claim_problem(claim, events_of(kube, claim), patience)
            return f"the claim {name} gets no volume: {problem}" if problem else None
    return None


def container_statuses(pod: dict) -> list[dict]:
    """The statuses of all containers of a pod, the initialising ones first."""
    status = pod.get("status", {})
    return (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])


def has_run(pod: dict) -> bool:
    """Whether a container of this pod runs, or ever did."""
    return any(
        "running" in each["state"] or "terminated" in each["state"] or each["restartCount"]
        for each in container_statuses(pod)
    )


def pods_of(kube: Kube, owner: dict, selector: dict[str, str]) -> list[dict]:
    """The pods with these labels that are not on their way out."""
    pods = kube.list("Pod", owner["metadata"]["namespace"], selector)
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def events_of(kube: Kube, item: dict) -> list[dict]:
    """The events about an object, oldest first."""
    fields = f"involvedObject.uid={item['metadata']['uid']}"
    events = kube.list("Event", item["metadata"].get("namespace"), fields=fields)
    return sorted(events, key=moment)


def last_warning(kube: Kube, item: dict) -> dict | None:
    """The newest event about an object that is a warning."""
    return next((e for e in reversed(events_of(kube, item)) if e.get("type") == "Warning"), None)


def warning_of(kube: Kube, pod: dict) -> str:
    """What the newest warning about a pod says, or nothing."""
    return (last_warning(kube, pod) or {}).get("message", "").strip()


def explain(kube: Kube, item: dict, pods: list[dict], log_lines: int) -> str:
    """A report on a workload: its conditions and events, and on its pods."""
    lines = [f"{item.get('kind', 'Object')} {item['metadata']['name']}:"]
    lines += [
        f"  condition {c['type']}={c['status']} {c.get('reason', '')} {c.get('message', '')}".rstrip()
        for c in item.get("status", {}).get("conditions") or []
    ]
    lines += event_lines(kube, item)
    return "\n".join([*lines, explain_pods(kube, pods, log_lines)])


def explain_pods(kube: Kube, pods: list[dict], log_lines: int) -> str:
    """A report on pods: for each its state, its events and the last lines of its logs."""
    lines = [] if pods else ["(no pods)"]
    for pod in pods:
        lines.append(f"Pod {pod['metadata']['name']}: {pod['status'].get('phase')}")
        for container in container_statuses(pod):
            state = json.dumps(container["state"])
            lines.append(f"  container {container['name']}: {container['restartCount']} restarts, {state}")
        lines += event_lines(kube, pod)
        for container in container_statuses(pod):
            lines += log_section(kube, pod, container, log_lines)
    return "\n".join(lines)


def keep_report(folder: str, name: str, report: str) -> Path:
    """Write a report to a new file in a folder, which is made if need be. Only its owner reads it: logs tell much."""
    place = Path(folder).expanduser()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir(mode=0o700, exist_ok=True)
    kept = place / f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{name}-{os.getpid()}.log"
    kept.touch(mode=0o600)
    kept.write_text(f"{report}\n")
    return kept


def event_lines(kube: Kube, item: dict) -> list[str]:
    """The last events about an object, a line each."""
    return [
        f"  event {e.get('type')} {e.get('reason')} (x{e.get('count') or 1}): {e.get('message')}"
        for e in events_of(kube, item)[-8:]
    ]


def log_section(kube: Kube, pod: dict, container: dict[str, Any], lines: int) -> list[str]:
    """The last lines a container wrote; those of its last life where this one is silent."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    text = kube.log(namespace, name, container["name"], lines)
    if not text.strip() and container["restartCount"]:
        text = kube.log(namespace, name, container["name"], lines, previous=True)
    return [f"  log of {container['name']}:", *(f"    {line}" for line in text.splitlines())] if text.strip() else []
