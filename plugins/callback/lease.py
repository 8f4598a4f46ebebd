"""Gives back, at the end of a run, the leases it took."""

from __future__ import annotations

from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: lease
    type: aggregate
    short_description: Gives a site's lease back at the end of the run
    description:
      - A task of the actions preflight and lease that took a lease returns it as C(lease).
      - A run that is killed cannot give it back; the next one sees that its process is gone.
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

    def v2_runner_on_ok(self, result: Any) -> None:
        lease = result.result.get("lease")
        if result.task.action.rpartition(".")[2] in ("preflight", "lease") and lease and lease not in self._leases:
            self._leases.append(dict(lease))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if not self._leases:
            return
        from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
        from ansible_collections.kubernetes_django.site.plugins.module_utils.lease import release

        for lease in self._leases:
            try:
                release(Kube(lease["kubeconfig"], lease["context"]), lease["namespace"])
            except KubeError as error:
                self._display.warning(f"The lease of {lease['namespace']} was not given back: {error}")
