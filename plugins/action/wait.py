"""Waits until workloads are ready, says what it waits for, and explains the failure as soon as the cluster knows.

Arguments:
    kubeconfig, context: where.
    namespace: the namespace of the workloads that name none.
    workloads: list of {kind, name, namespace, on_failure}; Job, Deployment, StatefulSet or PersistentVolumeClaim.
        on_failure is a sentence for the end of the message.
    timeout: seconds until waiting itself counts as a failure.
    log_dir: folder that keeps the report of a failure.
    log_lines: how many of a container's last log lines the report shows; a Job's log is shown whole.

Returns:
    seconds: how long it waited.
    logs: for each Job its log, so that the caller can show what it did.

kubernetes.core waits for some kinds only, takes a failed Job for one that still runs, and does not look at the pods,
so a mistyped image costs its whole timeout; hence this.
"""

from __future__ import annotations

import datetime
import re
import time
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import (
    State,
    explain,
    keep_report,
    look_at,
)

from ansible.plugins.action import ActionBase

LOOK_SECONDS = 0.3
WHOLE_LOG = 100_000  # lines
LAST_LINES = 5
NAMES_AN_ERROR = re.compile(r"[\w.]*(Error|Exception): ")
SAY_SECONDS = 5


class ActionModule(ActionBase):
    """Ansible's side of it: see the module's docstring."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("kubeconfig", "context", "namespace", "workloads", "timeout", "log_dir", "log_lines"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        if self._task.check_mode:
            return result | {"changed": False, "skipped": True, "msg": "nothing was applied, so nothing to wait for"}
        began = time.monotonic()
        try:
            kube = Kube(args["kubeconfig"], args["context"])
            logs = [self._wait(kube, args | each, each["kind"], each["name"], began) for each in args["workloads"]]
        except (KubeError, NotReady) as error:
            return result | {"failed": True, "msg": str(error)}
        return result | {"changed": False, "seconds": round(time.monotonic() - began, 1), "logs": logs}

    def _wait(self, kube: Kube, args: dict[str, Any], kind: str, name: str, began: float) -> str:
        """Wait for one workload; return a Job's log, else nothing.

        Raises:
            NotReady: it failed, or time was up.
        """
        namespace, timeout = args["namespace"], float(args.get("timeout", 300))
        said, since = began, datetime.datetime.now()
        while True:
            waited = time.monotonic() - began
            try:
                state = look_at(kube, kind, name, namespace)
            except KubeError as error:
                # An API server that restarts is away for seconds; a refusal stays one.
                if error.status or waited > timeout:
                    raise
                state = State(False, waiting=str(error))
            if state.ready:
                return "".join(
                    kube.log(namespace, pod["metadata"]["name"], container["name"], WHOLE_LOG)
                    for pod in state.pods
                    for container in pod["spec"]["containers"]
                )
            if state.failed is not None:
                raise NotReady(self._report(kube, args, kind, name, state, state.failed))
            if waited > timeout:
                cause = f"still not ready after {waited:.0f} s (site_wait_timeout): {state.waiting}"
                raise NotReady(self._report(kube, args, kind, name, state, cause))
            if time.monotonic() - said >= SAY_SECONDS:
                said = time.monotonic()
                self._display.display(f"   ... {kind} {name}, since {since:%H:%M:%S} ({waited:.0f} s): {state.waiting}")
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


class NotReady(Exception):
    """A workload failed, or time was up; the text is the whole report."""
