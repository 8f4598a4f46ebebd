# GNU General Public License v3.0+ (see LICENSE)
"""What preflight asks about the node port of the site's Service."""

from __future__ import annotations

from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState


def check_node_port(site: SiteState) -> Found:
    """The node port must be free, or the site's Service's already."""
    port, own = site.values["django_node_port"], (site.values["site_namespace"], site.values["django_service"])
    # A namespaced account may not look elsewhere; the API server refuses a port that is taken.
    for service in site.kube.list_if_allowed("Service") or []:
        owner = (service["metadata"]["namespace"], service["metadata"]["name"])
        ports = [entry.get("nodePort") for entry in service["spec"].get("ports") or []]
        if port in ports and owner != own:
            return {}, [
                f"django_node_port: {port} is taken by the Service {owner[1]} in namespace {owner[0]}. Choose another."
            ]
    return {}, []
