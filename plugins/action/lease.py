# GNU General Public License v3.0+ (see LICENSE)
"""Takes the lease of a site, see module_utils/lease.py."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.lease import acquire
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import place_of

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Ansible's side of it: see plugins/modules/lease.py."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("kubeconfig", "context", "namespace", "seconds"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        if self._task.check_mode:
            return result | {"skipped": True}
        try:
            place = place_of(self, task_vars)
            who, refused = acquire(Kube(**place), place | {"namespace": args["namespace"]}, "", int(args["seconds"]))
        except KubeError as error:
            refused = str(error)
        if refused:
            return result | {"failed": True, "msg": refused}
        taken = {"namespace": args["namespace"], "holder": who}
        return result | {"changed": False, "ansible_facts": {"site_lease": taken}}
