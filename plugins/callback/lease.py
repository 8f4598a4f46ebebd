"""Gives back, at the end of a run, the leases it took."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import lease
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: lease
    type: aggregate
    short_description: Gives a site's lease back at the end of the run
    description:
      - A task of the actions preflight and lease that took a lease returns it as C(lease).
      - A run that is killed cannot give it back; the next one sees that its process is gone.
      - Notes the process id of the run, for the tasks that take one.
"""


class CallbackModule(CallbackBase):
    """Ansible's side of it: see DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "lease"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._leases: list[dict[str, str]] = []
        lease.run_pid = os.getpid()

    def v2_runner_on_ok(self, result: Any) -> None:
        taken = result.result.get("lease")
        if result.task.action.rpartition(".")[2] in ("preflight", "lease") and taken and taken not in self._leases:
            self._leases.append(dict(taken))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if not self._leases:
            return
        for taken in self._leases:
            try:
                lease.release(Kube(taken["kubeconfig"], taken["context"]), taken["namespace"])
            except KubeError as error:
                self._display.warning(f"The lease of {taken['namespace']} was not given back: {error}")
