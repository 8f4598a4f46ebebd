# GNU General Public License v3.0+ (see LICENSE)
"""Filters data_lines and schedule_lines: the data's volume, backups and drills, as playbooks/status.yml shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.formatting import format_age, format_size


def data_lines(printed: str) -> list[str]:
    """The lines.

    Args:
        printed: what `df -Pk` says of the data's volume, and after it the comment on the database.
    """
    rows = printed.splitlines()
    lines = []
    if len(rows) > 1 and rows[1].split()[1:3]:
        total, used = (int(field) * 1024 for field in rows[1].split()[1:3])
        lines.append(f"  Volume of the data: {format_size(used)} of {format_size(total)} in use")
    noted = {}
    if rows and rows[-1].startswith('{"kubernetes_django": '):
        noted = json.loads(rows[-1])["kubernetes_django"]
    if backup := noted.get("backup"):
        used, total = (format_size(backup["volume"][f"{key}_bytes"]) for key in ("used", "size"))
        lines.append(
            f"  Last backup: {backup['name']}, {format_size(backup['size_bytes'])}, "
            f"{format_age(backup['finished_at'])} ago; its volume had {used} of {total} in use"
        )
    else:
        lines.append("  Last backup: none yet; playbooks/backup.yml makes one")
    lines += failure_lines(noted, "backup")
    if drill := noted.get("drill"):
        lines.append(
            f"  Last drill: {format_age(drill['finished_at'])} ago, the backup {drill['backup']} in {drill['seconds']} "
            f"s, {drill['tables']} tables with {drill['rows']} rows"
        )
    else:
        lines.append("  Last drill: none yet; playbooks/restore_drill.yml makes one")
    return lines + failure_lines(noted, "drill")


def failure_lines(noted: dict[str, Any], what: str) -> list[str]:
    """That the last backup or drill (`what`) failed; it is noted until the next one succeeds."""
    failed = noted.get(f"failed_{what}")
    return [f"  FAILED: a {what}, {format_age(failed['finished_at'])} ago: {failed['cause']}"] if failed else []


def schedule_lines(cron_jobs: list[dict[str, Any]]) -> list[str]:
    """A line for each schedule: when it last succeeded, and whether its last run did.

    Args:
        cron_jobs: as the API server tells them.
    """
    lines = []
    for job in sorted(cron_jobs, key=lambda each: each["metadata"]["name"]):
        status = job.get("status") or {}
        ran, succeeded = status.get("lastScheduleTime"), status.get("lastSuccessfulTime")
        said = f"last success {format_age(succeeded)} ago" if succeeded else "no success yet"
        if status.get("active"):
            said += f", begun {format_age(ran)} ago"
        elif ran and (not succeeded or succeeded < ran):
            # Once its Job is deleted, events and log are gone as well.
            said += (
                f"; FAILED: its run {format_age(ran)} ago, see kubectl -n {job['metadata']['namespace']} describe jobs"
            )
        lines.append(f"  Schedule {job['metadata']['name']} ({job['spec']['schedule']}): {said}")
    return lines


class FilterModule:
    """Ansible's side of it."""

    def filters(self) -> dict[str, Callable]:
        return {"data_lines": data_lines, "schedule_lines": schedule_lines}
