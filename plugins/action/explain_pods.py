# GNU General Public License v3.0+ (see LICENSE)
"""Prints and keeps what is known of a site's pods: states, events, last log lines."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import PART_OF, Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import explain_pods, keep_report
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import place_of

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Ansible's side of it: see plugins/modules/explain_pods.py."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("kubeconfig", "context", "namespace", "site_name", "log_dir", "log_lines"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        try:
            kube = Kube(**place_of(self, task_vars))
            pods = kube.list("Pod", args["namespace"], {PART_OF: args["site_name"]})
            report = explain_pods(kube, pods, int(args["log_lines"]))
        except KubeError as error:
            return result | {"failed": True, "msg": str(error)}
        kept = keep_report(args["log_dir"], f"{args['namespace']}-pods", report)
        self._display.display(f"{report}\n(kept in {kept})")
        return result | {"changed": False}
