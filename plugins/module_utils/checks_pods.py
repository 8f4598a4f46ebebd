# GNU General Public License v3.0+ (see LICENSE)
"""What preflight asks about what all pods of the site have in common."""

from __future__ import annotations

from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState


def check_priority_class(site: SiteState) -> Found:
    """A pod of a class that is not there would be refused. An account that may not look is believed."""
    name = site.values["site_priority_class"]
    classes = site.kube.list_if_allowed("PriorityClass") if name else None
    if classes is None:
        return {}, []
    names = [each["metadata"]["name"] for each in classes]
    if name in names:
        return {}, []
    return {}, [f"site_priority_class: the cluster has no PriorityClass {name}, only {', '.join(sorted(names))}."]
