# GNU General Public License v3.0+ (see LICENSE)
"""Waits until workloads are ready, says what it waits for, and explains the failure as soon as the cluster knows."""

from __future__ import annotations

import datetime
import re
import time
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.scheduling import Patience
from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import (
    State,
    container_problem,
    explain,
    has_run,
    job_ended,
    keep_report,
    look_again,
)
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import place_of

from ansible.plugins.action import ActionBase

LOOK_SECONDS = 0.3
WHOLE_LOG = 100_000  # lines
LAST_LINES = 5
NAMES_AN_ERROR = re.compile(r"[\w.]*(Error|Exception): ")
SAY_SECONDS = 5


class ActionModule(ActionBase):
    """Ansible's side of it: see plugins/modules/wait.py."""

    _requires_connection = False
    _VALID_ARGS = frozenset(
        ("kubeconfig", "context", "namespace", "workloads", "timeout", "node_patience", "log_dir", "log_lines")
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        if self._task.check_mode:
            return result | {"changed": False, "skipped": True, "msg": "nothing was applied, so nothing to wait for"}
        patience = Patience(float(args["node_patience"]))
        try:
            kube = Kube(**place_of(self, task_vars))
            logs = [self._wait(kube, args | each, patience) for each in args["workloads"]]
        except (KubeError, NotReady) as error:
            return result | {"failed": True, "msg": str(error)}
        return result | {"changed": False, "seconds": round(time.monotonic() - patience.began, 1), "logs": logs}

    def _wait(self, kube: Kube, args: dict[str, Any], patience: Patience) -> str:
        """Wait for one workload; return a Job's log, else nothing.

        Raises:
            NotReady: it failed, or time was up.
        """
        kind, name, timeout = args["kind"], args["name"], float(args.get("timeout", 300))
        said = looked = patience.began
        since, unhurried, first = datetime.datetime.now(), 0.0, True
        while True:
            is_late = time.monotonic() - patience.began - unhurried > timeout
            state = look_again(kube, kind, name, args["namespace"], patience, is_late)
            if first and state.failed is not None and start_anew(kube, kind, state.pods):
                state.failed = None
            if state.ready:
                return "".join(
                    kube.log(args["namespace"], pod["metadata"]["name"], container["name"], WHOLE_LOG)
                    for pod in state.pods
                    for container in pod["spec"]["containers"]
                )
            if state.failed is not None:
                raise NotReady(self._report(kube, args, kind, name, state, state.failed))
            unhurried += time.monotonic() - looked if state.node_is_made else 0.0
            first, looked = False, time.monotonic()
            waited = looked - patience.began
            if waited - unhurried > timeout:
                cause = f"still not ready after {waited:.0f} s (site_wait_timeout): {state.waiting}"
                raise NotReady(self._report(kube, args, kind, name, state, cause))
            if looked - said >= SAY_SECONDS:
                said = looked
                doing = (kind == "Job" and last_words(kube, state.pods)) or state.waiting
                self._display.display(f"   ... {kind} {name}, since {since:%H:%M:%S} ({waited:.0f} s): {doing}")
            time.sleep(LOOK_SECONDS)

    @staticmethod
    def _report(kube: Kube, args: dict[str, Any], kind: str, name: str, state: State, cause: str) -> str:
        """The message of a failure: the report, and the cause last, where people look."""
        item = kube.get(kind, name, args["namespace"]) or {"kind": kind, "metadata": {"name": name, "uid": "none"}}
        try:
            report = explain(kube, item, state.pods, WHOLE_LOG if kind == "Job" else int(args.get("log_lines", 30)))
        except KubeError as error:
            report = f"(nothing more is known: {error})"
        kept = keep_report(args["log_dir"], f"{args['namespace']}-{kind.lower()}-{name}", f"{report}\n\n{cause}")
        words = last_words(kube, state.pods)
        if words:
            cause = f"{cause}. Its last words: {words}"
        if kind == "Job" and forget(kube, item, state.pods):
            cause = f"{cause}. Its pod never ran, so the Job was deleted: nothing of it happens later."
        after = f" {args['on_failure']}" if args.get("on_failure") else ""
        return f"{report}\n(kept in {kept})\n{kind} {name} is not ready: {cause}{after}"


def last_words(kube: Kube, pods: list[dict]) -> str:
    """The last line that a program of these pods wrote, or the last one that names an error: mostly the cause."""
    logs = [
        kube.log(pod["metadata"]["namespace"], pod["metadata"]["name"], container["name"], LAST_LINES).strip()
        for pod in pods
        for container in pod["spec"]["containers"]
    ]
    lines = next((log.splitlines() for log in reversed(logs) if log), [""])
    # What a program wrote without a newline comes after its traceback.
    return next((line for line in reversed(lines) if NAMES_AN_ERROR.match(line)), lines[-1]).strip()


def start_anew(kube: Kube, kind: str, pods: list[dict]) -> bool:
    """Delete the pods that an earlier run left without hope; their controller makes new ones at once.

    What was mended since shows then, and not after the kubelet's pause of up to five minutes. A Job's pods are left
    alone: each counts as a try.

    Returns:
        whether there were any.
    """
    hopeless = [pod["metadata"] for pod in pods if kind != "Job" and container_problem(pod)]
    for metadata in hopeless:
        kube.request("DELETE", kube.path("Pod", metadata["namespace"], metadata["name"]))
    return bool(hopeless)


def forget(kube: Kube, job: dict[str, Any], pods: list[dict]) -> bool:
    """Delete a Job of which no container ever ran: what it was to do must not happen after it was called a failure.

    Returns:
        whether it was deleted.
    """
    if "spec" not in job or job_ended(job) or any(map(has_run, pods)):
        return False
    path = kube.path("Job", job["metadata"]["namespace"], job["metadata"]["name"])
    kube.request("DELETE", path, {"propagationPolicy": "Background"})
    return True


class NotReady(Exception):
    """A workload failed, or time was up; the text is the whole report."""
