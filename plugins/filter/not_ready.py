"""Filter not_ready: which workloads of an apply are worth waiting for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import is_ready


def not_ready(applied: dict[str, Any], workloads: list[dict[str, str]]) -> list[dict[str, str]]:
    """The workloads that the answer of kubernetes.core.k8s does not show ready.

    An apply that changed nothing already says that all is well: asking once more would cost a second run half of
    its time.

    Args:
        applied: what kubernetes.core.k8s returned.
        workloads: list of {kind, name}.
    """
    answers = applied.get("result", {})
    items = answers.get("results", [answers])
    items = [item.get("result", item) for item in items]
    known_ready = {(item["kind"], item["metadata"]["name"]) for item in items if item.get("kind") and is_ready(item)}
    return [w for w in workloads if (w["kind"], w["name"]) not in known_ready]


class FilterModule:
    """Ansible's side of it."""

    def filters(self) -> dict[str, Callable]:
        return {"not_ready": not_ready}
