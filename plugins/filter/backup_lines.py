# GNU General Public License v3.0+ (see LICENSE)
"""Filter backup_lines: the backups, one a line, as playbooks/backups.yml shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.formatting import (
    format_age,
    format_size,
    format_utc,
)


def backup_lines(printed: str) -> list[str]:
    """A table of the backups, newest first, and how full their volume is.

    Args:
        printed: what list.sh of role postgres printed: a JSON object a line.
    """
    told = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    rows = [row(item["backup"], item["places"]) for item in told if "backup" in item]
    lines = ["There is no backup yet: playbooks/backup.yml makes one."]
    if rows:
        head = ("BACKUP", "SIZE", "AGE", "RELEASE", "LAST MIGRATION", "POSTGRESQL", "WHERE")
        table = [head, *reversed(rows)]
        widths = [max(len(line[column]) for line in table) for column in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table
        ]
    archives = sorted((item["archive"] for item in told if "archive" in item), key=itemgetter("from"))
    lines += [
        f"Any moment from {format_utc(archive['from'])} to {format_utc(archive['to'])} can be restored: -e to_time=…"
        for archive in archives
    ]
    return lines + [
        f"The volume has {format_size(volume['used_bytes'])} of {format_size(volume['size_bytes'])} in use."
        for item in told
        if (volume := item.get("volume"))
    ]


def row(backup: dict[str, Any], places: list[str]) -> tuple[str, ...]:
    """The cells of one backup."""
    return (
        backup["name"],
        format_size(backup["size_bytes"]),
        format_age(backup["finished_at"]),
        backup["release"] or "-",
        backup["migration"] or "-",
        backup["server_version"].split()[0],
        ", ".join(places),
    )


class FilterModule:
    """Ansible's side of it."""

    def filters(self) -> dict[str, Callable]:
        return {"backup_lines": backup_lines}
