# GNU General Public License v3.0+ (see LICENSE)
"""Lookup nodes: what the nodes of a cluster are, as far as an image for them depends on it."""

from __future__ import annotations

DOCUMENTATION = """
    name: nodes
    short_description: What the nodes of a cluster are
    description:
      - Asks the API server once, and returns one dict. Never fails - what was wrong is in C(error).
    options:
      kubeconfig:
        type: path
        required: true
        description: The kubeconfig.
      context:
        type: str
        required: true
        description: The context in it.
      images:
        type: str
        default: ""
        description: How the names of the images begin that are asked for.
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('kubernetes_django.site.nodes', kubeconfig='~/.kube/config', context='kind-kind').platforms }}"
"""

RETURN = """
    _raw:
      description: One dict.
      type: list
      elements: dict
      contains:
        error: {type: str, description: "Why the cluster said nothing; empty."}
        count: {type: int, description: "How many nodes there are; 0 for an account that may not look."}
        platforms: {type: list, description: "Those that pods can run on, such as C(linux/amd64)."}
        names: {type: list, description: "Names of the nodes, 100 at most."}
        images: {type: list, description: "Names of images that every node has."}
        minikube: {type: str, description: "The profile, where minikube made the nodes."}
        k3s: {type: bool, description: "Whether they run k3s."}
        here: {type: bool, description: "Whether one of them is this machine."}
"""

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.addresses import is_local
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError

from ansible.plugins.lookup import LookupBase

# What is given to a program as an argument has an end; only small clusters take images node by node.
MOST_NAMES = 100


class LookupModule(LookupBase):
    """Ansible's side of it: see DOCUMENTATION."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        try:
            kube = Kube(self.get_option("kubeconfig"), self.get_option("context"))
            return [describe(kube.list_if_allowed("Node") or [], self.get_option("images"))]
        except KubeError as error:
            return [describe([], "") | {"error": str(error)}]


def describe(nodes: list[dict[str, Any]], prefix: str) -> dict[str, Any]:
    """What RETURN says, of these nodes.

    Args:
        nodes: as the API server gives them.
        prefix: of the images' names that are asked for.
    """
    information = [node["status"]["nodeInfo"] for node in nodes]
    workers = [node for node in nodes if not is_control_plane(node)] or nodes
    addresses = [each for node in nodes for each in node["status"].get("addresses") or []]
    images = [
        {name for image in node["status"].get("images") or [] for name in image.get("names") or []} for node in nodes
    ]
    labels = [node["metadata"].get("labels") or {} for node in nodes]
    return {
        "error": "",
        "count": len(nodes),
        "platforms": sorted(
            {
                f"linux/{node['status']['nodeInfo']['architecture']}"
                for node in workers
                if node["status"]["nodeInfo"]["operatingSystem"] == "linux"
            }
        ),
        "names": [node["metadata"]["name"] for node in nodes][:MOST_NAMES],
        "images": sorted(name for name in (set.intersection(*images) if images else ()) if name.startswith(prefix)),
        "minikube": next((each["minikube.k8s.io/name"] for each in labels if "minikube.k8s.io/name" in each), ""),
        "k3s": bool(nodes) and all("+k3s" in each["kubeletVersion"] for each in information),
        "here": any(each["type"] == "InternalIP" and is_local(each["address"]) for each in addresses),
    }


def is_control_plane(node: dict[str, Any]) -> bool:
    """Whether it keeps the site's pods away, as the nodes of a control plane do."""
    return any(
        taint["key"] == "node-role.kubernetes.io/control-plane" and taint["effect"] != "PreferNoSchedule"
        for taint in node["spec"].get("taints") or []
    )
