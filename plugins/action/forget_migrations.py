"""Deletes the Jobs of migrations, and what the releases say of them, so that the next deploy migrates again.

Arguments:
    kubeconfig, context, namespace: where.
    site_name: whose.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import releases
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Ansible's side of it: see the module's docstring."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("kubeconfig", "context", "namespace", "site_name"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        if self._task.check_mode:
            return result | {"changed": True}
        try:
            kube = Kube(args["kubeconfig"], args["context"])
            jobs = releases.forget_migrations(kube, args["site_name"], args["namespace"])
        except KubeError as error:
            return result | {"failed": True, "msg": str(error)}
        return result | {"changed": bool(jobs)}
