# GNU General Public License v3.0+ (see LICENSE)
"""The site as preflight finds it: what its checks share, each in a `checks_` module of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import PART_OF, Kube

# What is found, by part of the state, and a finding for each thing that stands in the roles' way.
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
        state: what was found so far, by part; roles read it as `site_state`.
        notes: what people are told, and nothing waits for.
    """

    kube: Kube
    values: dict[str, Any]
    namespace: dict | None
    labels: dict[str, str] = field(default_factory=dict)
    backups: bool = False
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    state: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def get(self, kind: str, name: str) -> dict | None:
        """An object in the site's namespace, or None where one of the two does not exist."""
        return self.kube.get(kind, name, self.values["site_namespace"]) if self.namespace else None

    def list_own(self, kind: str, **labels: str) -> list[dict]:
        """The site's objects of a kind."""
        selector = {PART_OF: self.values["site_name"]} | labels
        return self.kube.list(kind, self.values["site_namespace"], selector) if self.namespace else []

    def add(self, found: dict[str, dict[str, Any]]) -> None:
        """Put what was found into the state, each part beside what is known of it."""
        for part, values in found.items():
            self.state[part] = self.state.get(part, {}) | values

    def is_closed(self) -> bool:
        """Whether an upgrade has closed the database."""
        return self.state.get("database", {}).get("closed", False)
