# GNU General Public License v3.0+ (see LICENSE)
"""What preflight asks about the rights of the context's user."""

from __future__ import annotations

from ansible_collections.kubernetes_django.site.plugins.module_utils import rights
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube


def check_rights(kube: Kube, name: str, asked: list[rights.Right]) -> list[str]:
    """The user of the context must be allowed to do what the roles do."""
    denied = rights.denied(kube, name, asked)
    if not denied:
        return []
    return [
        f"cluster_context: the user of context {kube.context} may not {rights.in_words(denied)} in namespace {name}. "
        "Ask for these rights, or name a context whose user has them."
    ]
