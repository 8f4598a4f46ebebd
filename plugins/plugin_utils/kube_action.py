# GNU General Public License v3.0+ (see LICENSE)
"""What the actions have in common that change a cluster and need no module on it."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import lease
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError

from ansible.plugins.action import ActionBase


def place_of(action: ActionBase, task_vars: dict[str, Any] | None) -> dict[str, str]:
    """The arguments `kubeconfig` and `context` of a task; without them, what the role `site` has for the site.

    Raises:
        KubeError: there is neither.
    """
    place = {}
    for name in ("kubeconfig", "context"):
        if name in action._task.args:
            place[name] = action._task.args[name]
        elif f"site_{name}" in (task_vars or {}):
            place[name] = action._templar.template(task_vars[f"site_{name}"])
        else:
            raise KubeError(f"{name} is missing. Give the task one, or set the variable site_{name}.")
    return place


class KubeAction(ActionBase):
    """Connects to the cluster of the task, and reports what it refuses as a failure."""

    _requires_connection = False
    # What a dry run answers in place of `act`.
    _DRY_RUN: dict[str, Any] = {"changed": True}  # noqa: RUF012 (Ansible's own are plain attributes as well)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        if self._task.check_mode:
            return result | self._DRY_RUN
        try:
            kube = Kube(**place_of(self, task_vars))
            lease.require(kube, (task_vars or {}).get("site_lease"))
            return result | self.act(kube)
        except KubeError as error:
            return result | lease.report(error)

    def act(self, kube: Kube) -> dict[str, Any]:
        """Do it; return the task's result.

        Raises:
            KubeError: it cannot be done; the text is the task's message.
        """
        raise NotImplementedError
