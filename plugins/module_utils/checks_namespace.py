# GNU General Public License v3.0+ (see LICENSE)
"""What preflight asks about the site's namespace: whose it is, its labels, and what is in it."""

from __future__ import annotations

from ansible_collections.kubernetes_django.site.plugins.module_utils import rights
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_rights import check_rights
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import PART_OF, Kube
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState


def check_namespace(site: SiteState) -> Found:
    """The namespace must be this site's, or nobody's; or given to it as it is, by an administrator.

    The site works without the labels that it is to have, where this account may not set them.

    Returns:
        its state, and findings.
    """
    kube, name, own_name = site.kube, site.values["site_namespace"], site.values["site_name"]
    if site.namespace is None:
        missing_rights = check_rights(kube, name, rights.TO_MAKE_THE_NAMESPACE)
        return {"namespace": {"exists": False, "current": False, "is_ours": False}}, missing_rights
    found = site.namespace["metadata"].get("labels") or {}
    missing = {key: value for key, value in site.labels.items() if found.get(key) != value}
    is_given = bool(missing and rights.denied(kube, name, rights.TO_LABEL_THE_NAMESPACE))
    if is_given:
        site.notes.append(note_of_labels(name, missing))
    owner = found.get(PART_OF)
    state = {"namespace": {"exists": True, "current": is_given or not missing, "is_ours": owner == own_name}}
    if site.namespace["status"].get("phase") == "Terminating":
        return state, [f"site_namespace: {name} is being deleted. Wait for its end, then run again."]
    if owner not in (None, own_name):
        another = "Give this site a namespace of its own."
        return state, [f"site_namespace: {name} belongs to the site {owner}, not to {own_name}. {another}"]
    return state, [] if owner or is_given else check_strangers(kube, own_name, name)


def check_strangers(kube: Kube, site: str, name: str) -> list[str]:
    """Pods that are not the site's would be held to its rules."""
    strangers = [
        p["metadata"]["name"]
        for p in kube.list("Pod", name)
        if (p["metadata"].get("labels") or {}).get(PART_OF) != site
    ]
    if not strangers:
        return []
    return [
        f"site_namespace: {name} runs pods that are not this site's ({', '.join(strangers[:3])}), and would be "
        "made to enforce Pod Security restricted. Give this site a namespace of its own."
    ]


def note_of_labels(name: str, missing: dict[str, str]) -> str:
    """What an administrator may do for a namespace that this account may not label."""
    labels = " ".join(f"{key}={value}" for key, value in missing.items())
    return (
        f"The user of this context may not label namespace {name}: Pod Security restricted is not enforced in it, and "
        f"nothing keeps another site out. An administrator can: kubectl label --overwrite namespace {name} {labels}"
    )


def look_at_kinds(site: SiteState) -> Found:
    """The kinds of role namespace's objects that are there; none of a kind that this account may not see."""
    kinds = ("NetworkPolicy", "ResourceQuota", "LimitRange") if site.namespace else ()
    own = {PART_OF: site.values["site_name"]}
    found = [kind for kind in kinds if site.kube.list_if_allowed(kind, site.values["site_namespace"], own)]
    return {"namespace": {"kinds": found}}, []
