# GNU General Public License v3.0+ (see LICENSE)
"""Renders templates, and asks the API server whether applying them would change anything.

A task of kubernetes.core.k8s costs about a second before it sends its first request. Where nothing differs, none is
needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible_collections.kubernetes_django.site.plugins.module_utils import lease
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import PATHS, Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.managed_fields import take_over_fields
from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import is_ready, job_ended, job_is_stale
from ansible_collections.kubernetes_django.site.plugins.plugin_utils.kube_action import place_of

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

# What the API server writes into an object's metadata.
SERVERS_OWN = {"managedFields", "resourceVersion", "uid", "creationTimestamp", "generation"}


class ActionModule(ActionBase):
    """Ansible's side of it: see plugins/modules/plan.py."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("kubeconfig", "context", "templates", "workloads", "namespace", "again"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        try:
            definitions = [each for template in args["templates"] for each in self._render(template)]
            kube = Kube(**place_of(self, task_vars))
            lease.require(kube, (task_vars or {}).get("site_lease"))
            live = {name_of(each): look_up(kube, each) for each in definitions}
            stale = {name: item["metadata"] for name, item in live.items() if is_stale(item, again=args["again"])}
            live = {name: None if name in stale else item for name, item in live.items()}
            if not self._task.check_mode:
                live = {name: item and take_over_fields(kube, item) for name, item in live.items()}
            after = {
                name_of(each): each if name_of(each) in stale else tried(kube, each, live[name_of(each)])
                for each in definitions
            }
            differs = [name for name in after if unmanaged(after[name]) != unmanaged(live[name])]
            not_ready = [
                each for each in args["workloads"] if not known_ready(live.get(f"{each['kind']}/{each['name']}"), each)
            ]
        except (AnsibleError, KubeError, yaml.YAMLError) as error:
            return result | lease.report(error)
        if self._task.check_mode:
            # A dry run would compare them with what is deleted by then.
            definitions = [each for each in definitions if name_of(each) not in stale]
        result |= {"changed": False, "definitions": definitions, "differs": differs, "not_ready": not_ready}
        result["stale"] = [{"name": item["name"], "namespace": item["namespace"]} for item in stale.values()]
        return result | {"diff": [difference(name, live[name], after[name]) for name in differs if self._task.diff]}

    def _render(self, template: str) -> list[dict[str, Any]]:
        """The objects of a template."""
        text = Path(self._find_needle("templates", template)).read_text(encoding="utf-8")
        rendered = self._templar.template(trust_as_template(text))
        return [each for each in yaml.load_all(str(rendered), yaml.CSafeLoader) if each]


def name_of(item: dict[str, Any]) -> str:
    """What people call an object."""
    return f"{item['kind']}/{item['metadata']['name']}"


def look_up(kube: Kube, item: dict[str, Any]) -> dict[str, Any] | None:
    """The object as it stands, or None where it is not there, or of a kind that this project does not read."""
    if item["kind"] not in PATHS:
        return None
    return kube.get(item["kind"], item["metadata"]["name"], item["metadata"].get("namespace"))


def is_stale(item: dict[str, Any] | None, *, again: bool) -> bool:
    """Whether an object is a Job of an earlier try, which would be reported in place of this one."""
    if item is None or item["kind"] != "Job":
        return False
    return job_is_stale(item) or (again and job_ended(item) is not None)


def tried(kube: Kube, item: dict[str, Any], live: dict[str, Any] | None) -> dict[str, Any]:
    """What the object would become; one that is not there yet, what the template says.

    Raises:
        KubeError: the API server refuses it.
    """
    if item["kind"] not in PATHS:
        return item
    after = kube.apply(item, dry_run=True)
    # What the server adds to a new one is no news. In a namespace that is not there, it does not even try.
    return item if live is None else after


def unmanaged(item: dict[str, Any] | None) -> dict[str, Any] | None:
    """An object without the record of who set what: after a rollback that alone may differ."""
    if item is None:
        return None
    return item | {"metadata": {key: value for key, value in item["metadata"].items() if key != "managedFields"}}


def difference(name: str, before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, Any]:
    """What --diff shows of an object: what people set, not what the server keeps beside it."""

    def shown(item: dict[str, Any]) -> str:
        kept = {key: value for key, value in item.items() if key != "status"}
        kept["metadata"] = {key: value for key, value in item["metadata"].items() if key not in SERVERS_OWN}
        return yaml.safe_dump(kept)

    return {
        "before_header": f"{name} as it is",
        "after_header": f"{name} as it will be",
        "before": shown(before) if before else "",
        "after": shown(after),
    }


def known_ready(live: dict[str, Any] | None, workload: dict[str, str]) -> bool:
    """Whether there is nothing to wait for."""
    return live is not None and is_ready(live | {"kind": workload["kind"]})
