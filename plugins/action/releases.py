# GNU General Public License v3.0+ (see LICENSE)
"""Lists the releases of a site, and finds one of them."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import releases
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import place_of

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Ansible's side of it: see plugins/modules/releases.py."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("kubeconfig", "context", "namespace", "deployment", "find", "wanted"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        name, namespace = args["deployment"], args["namespace"]
        try:
            kube = Kube(**place_of(self, task_vars))
            deployment = kube.get("Deployment", name, namespace)
            found = releases.releases_of(kube, deployment) if deployment else []
            lines = table(kube, namespace, found)
        except KubeError as error:
            return result | {"failed": True, "msg": str(error)}
        result |= {"changed": False, "lines": lines}
        if not args.get("find"):
            return result
        live = next((release for release in found if release.live), None)
        target = releases.find_wanted(found, str(args.get("wanted") or ""))
        if target is None or live is None or target.live:
            asked = args.get("wanted")
            what = (
                f"release: {asked} is live already."
                if target and target.live
                else f"release: there is no release {asked} to go back to."
                if asked
                else "There is no release before this one to go back to."
            )
            there = "\n".join([f"{what} Those that the cluster keeps (django_history):", *lines])
            return result | {"failed": True, "msg": there}
        return result | {"live": describe(live), "target": describe(target)}


def describe(release: releases.Release) -> dict[str, Any]:
    """A release as the tasks need it."""
    return {"name": release.name, "label": release.label, "image": release.image, "revision": release.revision}


def table(kube: Kube, namespace: str, found: list[releases.Release]) -> list[str]:
    """A line for each release, newest first."""
    lines = []
    for release in found:
        state = "live" if release.live else "failed" if release.failed else "former"
        pods = f", {release.pods[1]} of {release.pods[0]} pods ready" if release.pods[0] else ""
        lines.append(
            f"  revision {release.revision}: {state}{pods}\n"
            f"    image       {release.image}\n"
            f"    made        {release.created}\n"
            f"    migrations  {migrations(kube, namespace, release)}"
        )
    return lines or ["  none"]


def migrations(kube: Kube, namespace: str, release: releases.Release) -> str:
    """What the release's Job said last: the migrations that it applied."""
    if release.job is None:
        return "not by a Job"
    pods = kube.list("Pod", namespace, {"batch.kubernetes.io/job-name": release.job})
    for pod in pods:
        if pod["status"].get("phase") == "Succeeded":
            return kube.log(namespace, pod["metadata"]["name"], "migrate", 1).strip() or f"by Job {release.job}"
    return f"by Job {release.job}, which is gone"
