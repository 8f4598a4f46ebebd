# GNU General Public License v3.0+ (see LICENSE)
"""What somebody added to an object by hand: fields that a server-side apply leaves alone, as they are somebody else's.

A changed value is put back by the apply itself, which forces conflicts. An added variable, key or port conflicts with
nothing. Once the playbooks own it, the next apply takes it away, for it is in no template.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import FIELD_MANAGER, Kube

# What the templates say in full. Of a volume and its claim Kubernetes itself fills in a part.
KINDS = {
    "ConfigMap",
    "CronJob",
    "Deployment",
    "LimitRange",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "ResourceQuota",
    "Secret",
    "Service",
    "StatefulSet",
}
PARTS = ("f:spec", "f:data")
# Controllers do their work, and `kubectl rollout restart` has done its: to undo that would restart the pods again.
OTHERS = {"kube-controller-manager", "kubectl-rollout"}

Fields = dict[str, Any]


def take_over_fields(kube: Kube, item: dict[str, Any]) -> dict[str, Any]:
    """Let the playbooks own what others set in an object's specification or data; the values stay as they are.

    Returns:
        the object, with other owners where there was something to take over.

    Raises:
        KubeError: the API refused.
    """
    metadata = item["metadata"]
    entries = metadata.get("managedFields") or []
    ours = next((each for each in entries if is_own_entry(each)), None)
    strangers = [each for each in entries if is_foreign_entry(each)] if item["kind"] in KINDS and ours else []
    if not strangers:
        return item
    merged = ours["fieldsV1"]
    for each in strangers:
        theirs = {part: each["fieldsV1"][part] for part in PARTS if part in each["fieldsV1"]}
        # A number that no template says is an autoscaler's: to own it and not to say it would make it one.
        if "f:spec" in theirs:
            theirs["f:spec"] = {key: value for key, value in theirs["f:spec"].items() if key != "f:replicas"}
        merged = merge_fields(merged, theirs)
    kept = [each for each in entries if each is not ours and each not in strangers]
    # Whatever version it has by now: a controller that works on it writes its own entry again the next time.
    patch = [{"op": "replace", "path": "/metadata/managedFields", "value": [ours | {"fieldsV1": merged}, *kept]}]
    path = kube.path(item["kind"], metadata.get("namespace"), metadata["name"])
    return kube.request("PATCH", path, patch, content_type="application/json-patch+json")


def is_own_entry(entry: dict[str, Any]) -> bool:
    """Whether an entry of managedFields is that of the playbooks' applies."""
    return entry["manager"] == FIELD_MANAGER and entry["operation"] == "Apply" and not entry.get("subresource")


def is_foreign_entry(entry: dict[str, Any]) -> bool:
    """Whether an entry of managedFields is somebody's who changed what the templates are about."""
    named = entry["manager"] in OTHERS or entry["manager"].startswith(FIELD_MANAGER)
    return not named and not entry.get("subresource") and any(part in entry["fieldsV1"] for part in PARTS)


def merge_fields(one: Fields, other: Fields) -> Fields:
    """Both sets of fields, as managedFields writes them: nested, a leaf is empty."""
    return one | {key: merge_fields(one.get(key, {}), inner) for key, inner in other.items()}
