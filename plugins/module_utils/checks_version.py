# GNU General Public License v3.0+ (see LICENSE)
"""What preflight asks about the version of Kubernetes."""

from __future__ import annotations

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube

# The native sleep of preStop is on by default from here on.
OLDEST_KUBERNETES = (1, 30)


def check_version(kube: Kube) -> list[str]:
    """The server must be new enough for what the templates use."""
    version = kube.request("GET", "/version")
    found = (int(version["major"]), int(version["minor"].rstrip("+")))
    if found >= OLDEST_KUBERNETES:
        return []
    oldest = ".".join(map(str, OLDEST_KUBERNETES))
    return [f"cluster_context: this cluster runs Kubernetes {version['gitVersion']}; it must be {oldest} or newer."]
