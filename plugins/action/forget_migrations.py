# GNU General Public License v3.0+ (see LICENSE)
"""Deletes the Jobs of migrations, and what the releases say of them, so that the next deploy migrates again."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import releases
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import KubeAction


class ActionModule(KubeAction):
    """Ansible's side of it: see plugins/modules/forget_migrations.py."""

    _VALID_ARGS = frozenset(("kubeconfig", "context", "namespace", "site_name", "job"))

    def act(self, kube: Kube) -> dict[str, Any]:
        site, namespace = self._task.args["site_name"], self._task.args["namespace"]
        if job := self._task.args.get("job"):
            return {"changed": releases.take_back(kube, site, namespace, job)}
        return {"changed": bool(releases.forget_migrations(kube, site, namespace))}
