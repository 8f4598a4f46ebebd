# GNU General Public License v3.0+ (see LICENSE)
"""What preflight finds out about the cluster's nodes."""

from __future__ import annotations

import os

from ansible_collections.kubernetes_django.site.plugins.module_utils.addresses import is_local
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_network import note_who_enforces
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState


def look_at_nodes(site: SiteState) -> Found:
    """What the roles need to know of the nodes; for an account that may not see them, nothing is assumed.

    Returns:
        `nodes`: urls, where node ports may answer, without a port; minikube, its profile, or nothing; is_here, whether
        a directory of the one node is a directory of ours.
    """
    nodes = site.kube.list_if_allowed("Node") or []
    site.notes += note_who_enforces(site.kube, site.values, nodes)
    addresses = [
        address["address"]
        for node in nodes
        for address in node["status"].get("addresses") or []
        if address["type"] == "InternalIP"
    ]
    here = [address for address in addresses if is_local(address)]
    hosts = (["127.0.0.1"] if here else []) + (here or addresses)[:1]
    labels = nodes[0]["metadata"].get("labels") or {} if nodes else {}
    nodes_state = {
        "urls": [f"http://[{host}]" if ":" in host else f"http://{host}" for host in hosts],
        "minikube": labels.get("minikube.k8s.io/name", ""),
        "is_here": len(nodes) == 1 and bool(here) and os.geteuid() == 0,
    }
    return {"nodes": nodes_state}, []
