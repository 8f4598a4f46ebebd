# GNU General Public License v3.0+ (see LICENSE)
"""What preflight can tell of who enforces NetworkPolicies: the cluster's network plugin, or nobody."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube

# In the names of the DaemonSets of those that do. Not kindnet and aws-node: it depends on their version and settings.
ENFORCERS = ("antrea", "anetd", "azure-npm", "calico", "canal", "cilium", "kube-ovn", "kube-router", "ovnkube", "weave")


def note_who_enforces(kube: Kube, values: dict[str, Any], nodes: list[dict[str, Any]]) -> list[str]:
    """One sentence where no plugin is seen that enforces the site's policies, else nothing.

    Args:
        kube: the connection.
        values: the options of all roles.
        nodes: as the API server tells them; none for an account that may not see them.

    Raises:
        KubeError: no answer.
    """
    if not values.get("namespace_network_policies"):
        return []
    found = kube.list_if_allowed("DaemonSet")
    names = [each["metadata"]["name"] for each in found or []]
    # k3s has kube-router in its own program.
    if any(word in name for name in names for word in ENFORCERS) or any("+k3s" in version_of(node) for node in nodes):
        return []
    if found is None:
        seen = "It is not known whether a network plugin enforces NetworkPolicies, as this account may not look for one"
    else:
        seen = "No network plugin that is known to enforce NetworkPolicies was found"
    return [f"{seen}: unless one does, every pod of the cluster reaches the site's database, see docs/network.md."]


def version_of(node: dict[str, Any]) -> str:
    """The version of a node's kubelet."""
    return node["status"].get("nodeInfo", {}).get("kubeletVersion", "")
