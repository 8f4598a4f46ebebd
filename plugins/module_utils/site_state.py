# GNU General Public License v3.0+ (see LICENSE)
"""The site as preflight finds it: what its checks share, each in a `checks_` module of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import PART_OF, Kube

# Facts for the roles, and a finding for each thing that stands in their way.
Found = tuple[dict[str, Any], list[str]]


@dataclass
class SiteState:
    """One site in its cluster.

    Attributes:
        kube: the connection.
        values: the options of all roles that the run is about; what the cluster alone knows is put there.
        namespace: the site's, or None where it has to be made.
        labels: those that it is to have.
        backups: whether the run works with backups, even where no schedule asks for them.
        secrets: name of each Secret of the site -> its keys and values.
        facts: what was found so far.
    """

    kube: Kube
    values: dict[str, Any]
    namespace: dict | None
    labels: dict[str, str] = field(default_factory=dict)
    backups: bool = False
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def get(self, kind: str, name: str) -> dict | None:
        """An object in the site's namespace, or None where one of the two does not exist."""
        return self.kube.get(kind, name, self.values["site_namespace"]) if self.namespace else None

    def list_own(self, kind: str, **labels: str) -> list[dict]:
        """The site's objects of a kind."""
        selector = {PART_OF: self.values["site_name"]} | labels
        return self.kube.list(kind, self.values["site_namespace"], selector) if self.namespace else []
