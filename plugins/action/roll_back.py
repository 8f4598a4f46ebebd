"""Gives Deployments the pod template of a former release.

Arguments:
    kubeconfig, context, namespace: where.
    deployments: names; the first one is the site's, the others run beside it.
    revision: the revision of the first one to go to; the others go to their newest release with the same image.
        Without it: the release that still serves while the newest does not become ready, and this waits for its pods.
    cause: why the newest release failed. The task then fails as well, with the cause and what was put back.
    timeout: seconds to wait for the pods.

Returns:
    workloads: what to wait for, list of {kind, name}.

Migrations are not reversed.
"""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import releases
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import is_ready

from ansible.plugins.action import ActionBase

LOOK_SECONDS = 0.3


class ActionModule(ActionBase):
    """Ansible's side of it: see the module's docstring."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("kubeconfig", "context", "namespace", "deployments", "revision", "cause", "timeout"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        cause = args.get("cause")
        if self._task.check_mode:
            return result | {"failed": bool(cause), "msg": cause or "", "changed": not cause}
        said, image = [], None
        workloads: list[dict[str, str]] = []
        try:
            kube = Kube(args["kubeconfig"], args["context"])
            for name in args["deployments"]:
                item = kube.get("Deployment", name, args["namespace"])
                if item is None:
                    continue
                found = releases.releases_of(kube, item)
                if args.get("revision") is None:
                    put, line = put_back(kube, item, found)
                else:
                    wanted = image or str(args["revision"])
                    put, line = go_to(kube, item, releases.find_wanted(found, wanted), wanted)
                    image = image or (put and put.image)
                said.append(line)
                if put:
                    workloads.append({"kind": "Deployment", "name": name})
            if cause:
                said += [
                    text for each in workloads for text in wait(kube, args["namespace"], each["name"], args["timeout"])
                ]
        except KubeError as error:
            said.append(f"It could not be put back: {error}")
            cause = cause or str(error)
        text = " ".join(said)
        text = f"{cause}\n{text}" if cause else text
        return result | {"changed": bool(workloads), "failed": bool(cause), "msg": text, "workloads": workloads}


def put_back(kube: Kube, deployment: dict, found: list[releases.Release]) -> tuple[releases.Release | None, str]:
    """Undo a release that did not become ready.

    Returns:
        the release that was put back, if one was, and a sentence for people.
    """
    name = deployment["metadata"]["name"]
    if is_ready(deployment):
        return None, f"Deployment {name} is as it should be and was left alone."
    if releases.was_live(deployment, found):
        return None, f"The release of Deployment {name} was live before this run, so nothing was put back."
    newest = next((release for release in found if release.live), None)
    serving = releases.find_serving(found)
    if newest is None or serving is None:
        return None, f"This was the first release of Deployment {name}: there is none to go back to."
    releases.put_to(kube, deployment, serving)
    releases.mark_failed(kube, newest)
    return serving, f"Deployment {name} was put back to {serving.label}, whose pods went on serving."


def go_to(
    kube: Kube, deployment: dict, wanted: releases.Release | None, said: str
) -> tuple[releases.Release | None, str]:
    """Go to a release; what is returned is as in put_back."""
    name = deployment["metadata"]["name"]
    if wanted is None:
        return None, f"Deployment {name} has no release {said} and was left alone."
    if wanted.live:
        return None, f"Deployment {name} has {wanted.label} already."
    releases.put_to(kube, deployment, wanted)
    return wanted, f"Deployment {name} goes to {wanted.label}."


def wait(kube: Kube, namespace: str, name: str, seconds: str | int) -> list[str]:
    """Wait until a Deployment is ready; a sentence when it is not in time."""
    end = time.monotonic() + int(seconds)
    while time.monotonic() < end:
        item = kube.get("Deployment", name, namespace)
        if item and is_ready(item | {"kind": "Deployment"}):
            return []
        time.sleep(LOOK_SECONDS)
    return [f"Deployment {name} is not ready after {seconds} s: see playbooks/status.yml."]
