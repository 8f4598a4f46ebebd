"""Takes the lease of a site (see module_utils/lease.py); the callback plugin of the same name gives it back.

Arguments:
    kubeconfig, context, namespace: where.
    definition: the Namespace, to be made first; without it, it is there.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.lease import acquire

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Ansible's side of it: see the module's docstring."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("kubeconfig", "context", "namespace", "definition"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        if self._task.check_mode:
            return result | {"skipped": True}
        try:
            kube = Kube(args["kubeconfig"], args["context"])
            if args.get("definition"):
                kube.apply(args["definition"])
            taken = acquire(kube, args["namespace"])
        except KubeError as error:
            taken = str(error)
        if taken:
            return result | {"failed": True, "msg": taken}
        where = {key: args[key] for key in ("kubeconfig", "context", "namespace")}
        return result | {"changed": bool(args.get("definition")), "lease": where}
