# GNU General Public License v3.0+ (see LICENSE)
"""Filter pod_line: a pod in one line, as playbooks/status.yml shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def pod_line(pod: dict[str, Any]) -> str:
    """Name, phase, ready containers, restarts and the reason why one of them waits."""
    statuses = pod["status"].get("containerStatuses") or []
    ready = sum(status["ready"] for status in statuses)
    restarts = sum(status["restartCount"] for status in statuses)
    reasons = [status["state"]["waiting"].get("reason", "") for status in statuses if "waiting" in status["state"]]
    return (
        f"  {pod['metadata']['name']}: {pod['status'].get('phase')}, {ready} of {len(statuses)} containers ready, "
        f"{restarts} restarts {' '.join(reasons)}"
    ).rstrip()


class FilterModule:
    """Ansible's side of it."""

    def filters(self) -> dict[str, Callable]:
        return {"pod_line": pod_line}
