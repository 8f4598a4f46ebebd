# GNU General Public License v3.0+ (see LICENSE)
"""Secrets of the cluster, for plugins whose values go through no variable of Ansible's."""

from __future__ import annotations

import base64

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube

# The type that ingress controllers know certificates by; some take no other.
TLS = "kubernetes.io/tls"


def values_of(secret: dict | None) -> dict[str, str]:
    """The keys and values of a Secret; nothing where there is none."""
    return {key: base64.b64decode(value).decode() for key, value in ((secret or {}).get("data") or {}).items()}


def read_secret(kube: Kube, namespace: str, name: str) -> dict[str, str]:
    """The keys and values of a Secret; nothing where there is none."""
    return values_of(kube.get("Secret", name, namespace))


def write_secret(
    kube: Kube, namespace: str, name: str, labels: dict[str, str], values: dict[str, str], kind: str = "Opaque"
) -> None:
    """Make a Secret, or give it these values. `data`, so that nothing of it is copied into an annotation.

    Args:
        kube: the connection.
        namespace: where.
        name: of the Secret.
        labels: of the Secret.
        values: keys to values.
        kind: the Secret's type, which never changes: one of another type has to go first.
    """
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "type": kind,
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
        }
    )
