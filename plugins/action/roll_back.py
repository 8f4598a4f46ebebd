# GNU General Public License v3.0+ (see LICENSE)
"""Gives Deployments the pod template of a former release."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import releases
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import is_ready
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import place_of

from ansible.plugins.action import ActionBase

LOOK_SECONDS = 0.3


class ActionModule(ActionBase):
    """Ansible's side of it: see plugins/modules/roll_back.py."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("kubeconfig", "context", "namespace", "deployments", "revision", "cause", "timeout"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        cause = args.get("cause")
        if self._task.check_mode:
            return result | {"failed": bool(cause), "msg": cause or "", "changed": not cause}
        said: list[str] = []
        workloads: list[dict[str, str]] = []
        try:
            kube = Kube(**place_of(self, task_vars))
            items = [kube.get("Deployment", name, args["namespace"]) for name in args["deployments"]]
            for each, put, line in plan(kube, [item for item in items if item], args.get("revision")):
                said.append(line)
                if put:
                    releases.put_to(kube, each, put)
                    workloads.append({"kind": "Deployment", "name": each["metadata"]["name"]})
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


Step = tuple[dict[str, Any], releases.Release | None, str]


def plan(kube: Kube, deployments: list[dict], revision: Any) -> list[Step]:
    """What becomes of each Deployment: the release it goes to, if to another one, and a sentence for people.

    They are one release: where one of them is put back, those that came with the same image go along.
    """
    found = {id(each): releases.releases_of(kube, each) for each in deployments}
    steps, image = [], None
    for each in deployments:
        if revision is None:
            step = put_back(kube, each, found[id(each)])
        else:
            wanted = image or str(revision)
            step = go_to(each, releases.find_wanted(found[id(each)], wanted), wanted)
        image = image or (step[1] and step[1].image)
        steps.append(step)
    if image and revision is None:
        steps = [
            step if step[1] else go_to(step[0], releases.find_wanted(found[id(step[0])], image), image)
            for step in steps
        ]
    return steps


def put_back(kube: Kube, deployment: dict, found: list[releases.Release]) -> Step:
    """Undo a release that did not become ready."""
    name = deployment["metadata"]["name"]
    if is_ready(deployment | {"kind": "Deployment"}):
        return deployment, None, f"Deployment {name} is as it should be and was left alone."
    if releases.was_live(deployment, found):
        return (
            deployment,
            None,
            f"The release of Deployment {name} was live before this run, so nothing was put back.",
        )
    newest = next((release for release in found if release.live), None)
    serving = releases.find_serving(found)
    if newest is None or serving is None:
        return deployment, None, f"This was the first release of Deployment {name}: there is none to go back to."
    releases.mark_failed(kube, newest)
    pods = "went on serving" if serving.pods[1] else "are not ready either"
    return deployment, serving, f"Deployment {name} was put back to {serving.label}, whose pods {pods}."


def go_to(deployment: dict, wanted: releases.Release | None, said: str) -> Step:
    """Go to a release; `said` is what was asked for."""
    name = deployment["metadata"]["name"]
    if wanted is None:
        return deployment, None, f"Deployment {name} has no release {said} and was left alone."
    if wanted.live:
        return deployment, None, f"Deployment {name} has {wanted.label} already."
    return deployment, wanted, f"Deployment {name} goes to {wanted.label}."


def wait(kube: Kube, namespace: str, name: str, seconds: str | int) -> list[str]:
    """Wait until a Deployment is ready; a sentence when it is not in time."""
    end = time.monotonic() + int(seconds)
    while time.monotonic() < end:
        item = kube.get("Deployment", name, namespace)
        if item and is_ready(item | {"kind": "Deployment"}):
            return []
        time.sleep(LOOK_SECONDS)
    return [f"Deployment {name} is not ready after {seconds} s: see playbooks/status.yml."]
