"""Deletes the Jobs of migrations, and what the releases say of them, so that the next deploy migrates again.

Arguments:
    kubeconfig, context, namespace: where.
    site_name: whose.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import releases
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import KubeAction


class ActionModule(KubeAction):
    """Ansible's side of it: see the module's docstring."""

    _VALID_ARGS = frozenset(("kubeconfig", "context", "namespace", "site_name"))

    def act(self, kube: Kube) -> dict[str, Any]:
        jobs = releases.forget_migrations(kube, self._task.args["site_name"], self._task.args["namespace"])
        return {"changed": bool(jobs)}
