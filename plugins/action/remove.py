# GNU General Public License v3.0+ (see LICENSE)
"""Deletes objects by kind, and by name or labels, and waits until they are gone, those that they own included."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import KubeAction

LOOK_SECONDS = 0.3
SAY_SECONDS = 5


class ActionModule(KubeAction):
    """Ansible's side of it: see plugins/modules/remove.py."""

    _VALID_ARGS = frozenset(("kubeconfig", "context", "kinds", "namespace", "name", "labels", "timeout"))

    def act(self, kube: Kube) -> dict[str, Any]:
        found = [(kind, item["metadata"]) for kind in self._task.args["kinds"] for item in self._find(kube, kind)]
        for kind, metadata in found:
            # What it owns goes before it does, so that its being gone says that its pods are.
            path = kube.path(kind, metadata.get("namespace"), metadata["name"])
            kube.request("DELETE", path, {"propagationPolicy": "Foreground"})
        self._wait(kube, found)
        removed = [f"{kind}/{metadata['name']}" for kind, metadata in found]
        return {"changed": bool(removed), "removed": removed}

    def _find(self, kube: Kube, kind: str) -> list[dict]:
        """The objects of a kind that are meant."""
        args = self._task.args
        if "name" not in args:
            return kube.list(kind, args.get("namespace"), args["labels"])
        item = kube.get(kind, args["name"], args.get("namespace"))
        return [item] if item else []

    def _wait(self, kube: Kube, left: list[tuple[str, dict]]) -> None:
        """Until none of them is there.

        Raises:
            KubeError: time was up.
        """
        began = said = time.monotonic()
        while True:
            still = {item["metadata"]["uid"] for kind in {kind for kind, _ in left} for item in self._find(kube, kind)}
            left = [(kind, metadata) for kind, metadata in left if metadata["uid"] in still]
            if not left:
                return
            names = ", ".join(f"{kind} {metadata['name']}" for kind, metadata in left)
            waited = time.monotonic() - began
            if waited > float(self._task.args["timeout"]):
                raise KubeError(
                    f"Still there after {waited:.0f} s: {names}. They are being deleted: see what holds them with "
                    "kubectl get -o yaml (finalizers), then run this again."
                )
            if time.monotonic() - said >= SAY_SECONDS:
                said = time.monotonic()
                self._display.display(f"   ... {waited:.0f} s: waiting until these are gone: {names}")
            time.sleep(LOOK_SECONDS)
