# GNU General Public License v3.0+ (see LICENSE)
"""What the user of the context may do: asked all at once, and one by one for what that does not answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube

# How many questions are under way at a time: where every answer takes a provider's login service, they add up.
AT_A_TIME = 8


class Right(NamedTuple):
    """To do something with a kind of object: in the site's namespace, or, `cluster_wide`, anywhere."""

    verb: str
    group: str
    resource: str
    cluster_wide: bool = False


def rights(group: str, resource: str, verbs: str, cluster_wide: bool = False) -> list[Right]:
    """Rights to one kind of object; the verbs with spaces between them."""
    return [Right(verb, group, resource, cluster_wide) for verb in verbs.split()]


# What every deploy does.
EVERY_DEPLOY = [
    *rights("", "namespaces", "get"),
    *rights("", "secrets", "get list create patch delete"),
    *rights("", "services", "get create patch"),
    *rights("", "configmaps", "get create patch"),
    *rights("", "persistentvolumeclaims", "get"),
    *rights("networking.k8s.io", "networkpolicies", "list"),
    *rights("apps", "statefulsets", "get create patch"),
    *rights("apps", "deployments", "get list create patch"),
    *rights("apps", "replicasets", "list patch delete"),
    *rights("batch", "jobs", "get list create patch delete"),
    *rights("batch", "cronjobs", "list"),
    *rights("", "pods", "get list patch delete"),
    # By a websocket, which is a GET, and from Kubernetes 1.35 on counts as both.
    *rights("", "pods/exec", "get create"),
    *rights("", "pods/log", "get"),
    *rights("", "events", "list"),
    *rights("coordination.k8s.io", "leases", "get create update delete"),
]
TO_MAKE_THE_NAMESPACE = [
    *rights("", "namespaces", "create", cluster_wide=True),
    *rights("", "namespaces", "patch"),
]
TO_LABEL_THE_NAMESPACE = rights("", "namespaces", "patch")


def wanted(values: dict[str, Any]) -> list[Right]:
    """What a deploy with these variables does in namespace and cluster, beside what every deploy does."""
    found = []
    if values.get("namespace_network_policies"):
        found += rights("networking.k8s.io", "networkpolicies", "get create patch")
    if values.get("namespace_quota"):
        found += rights("", "resourcequotas", "get create patch")
    if values.get("namespace_limits"):
        found += rights("", "limitranges", "get create patch")
    if values.get("storage_kind") in ("hostpath", "class"):
        found += rights("", "persistentvolumeclaims", "create patch")
    if values.get("storage_kind") == "hostpath":
        found += rights("", "persistentvolumes", "get list create patch", cluster_wide=True)
    if values.get("postgres_backup_schedule") or values.get("postgres_drill_schedule"):
        found += rights("batch", "cronjobs", "get create patch")
    return found


def denied(kube: Kube, namespace: str, asked: list[Right]) -> list[Right]:
    """Those of these rights that the user of the context does not have."""
    answer = review(kube, "SelfSubjectRulesReview", {"namespace": namespace})
    rules = [rule for rule in answer.get("resourceRules") or [] if not rule.get("resourceNames")]
    # The rules are those of the namespace alone, and some authorizers list none.
    unsure = [right for right in asked if right.cluster_wide or not is_among(rules, right)]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        answers = list(pool.map(lambda right: is_allowed(kube, namespace, right), unsure))
    return [right for right, allowed in zip(unsure, answers, strict=True) if not allowed]


def is_among(rules: list[dict], right: Right) -> bool:
    """Whether one of these rules gives a right."""
    sub = right.resource.partition("/")[2]
    names = {"*", right.resource} | ({f"*/{sub}"} if sub else set())
    return any(
        {"*", right.verb} & set(rule["verbs"])
        and {"*", right.group} & set(rule.get("apiGroups") or [])
        and names & set(rule.get("resources") or [])
        for rule in rules
    )


def is_allowed(kube: Kube, namespace: str, right: Right) -> bool:
    """Whether the user of the context may do this; the API server itself is asked."""
    base, _, sub = right.resource.partition("/")
    place = {} if right.cluster_wide else {"namespace": namespace}
    # Of a namespace, its own name decides.
    name = {"name": namespace} if right.resource == "namespaces" and not right.cluster_wide else {}
    attributes = {"verb": right.verb, "group": right.group, "resource": base, "subresource": sub} | place | name
    return review(kube, "SelfSubjectAccessReview", {"resourceAttributes": attributes})["allowed"]


def review(kube: Kube, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """What the API server answers to a question about the user of the context."""
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    return kube.request("POST", f"/apis/authorization.k8s.io/v1/{kind.lower()}s", body=body)["status"]


def in_words(some: list[Right]) -> str:
    """Rights as people read them: `create, patch services`."""
    verbs: dict[str, list[str]] = {}
    for right in some:
        verbs.setdefault(right.resource, []).append(right.verb)
    return "; ".join(f"{', '.join(found)} {resource}" for resource, found in verbs.items())
