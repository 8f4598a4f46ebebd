# GNU General Public License v3.0+ (see LICENSE)
"""Asks the database in the cluster how it is."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import certificates
from ansible_collections.kubernetes_django.site.plugins.module_utils.database import Database
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.secret import read_secret
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import place_of

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Ansible's side of it: see plugins/modules/database_status.py."""

    _requires_connection = False
    _VALID_ARGS = frozenset(
        ("kubeconfig", "context", "namespace", "pod", "port", "database", "questions", "certificate_secret")
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        try:
            kube = Kube(**place_of(self, task_vars))
            database = Database(kube, args["namespace"], args["pod"], args["database"], int(args["port"]))
            lines = database.sql(args["questions"]).splitlines()
            if args["certificate_secret"]:
                certificate = read_secret(kube, args["namespace"], args["certificate_secret"]).get("tls.crt", "")
                lines.append(f"certificate good for {certificates.days_left(certificate):.0f} days")
        except (KubeError, ValueError) as error:
            lines = [f"does not answer: {error}"]
        return result | {"changed": False, "lines": lines}
