"""Filter data_lines: the data's volume, the last backup and the last drill, as playbooks/status.yml shows them."""

from __future__ import annotations

import json
from collections.abc import Callable

from ansible_collections.kubernetes_django.site.plugins.module_utils.human import age, size


def data_lines(printed: str) -> list[str]:
    """The lines.

    Args:
        printed: what `df -Pk` says of the data's volume, and after it the comment on the database.
    """
    rows = printed.splitlines()
    lines = []
    if len(rows) > 1 and rows[1].split()[1:3]:
        total, used = (int(field) * 1024 for field in rows[1].split()[1:3])
        lines.append(f"  Volume of the data: {size(used)} of {size(total)} in use")
    noted = {}
    if rows and rows[-1].startswith('{"kubernetes_django": '):
        noted = json.loads(rows[-1])["kubernetes_django"]
    if backup := noted.get("backup"):
        volume = backup["volume"]
        lines.append(
            f"  Last backup: {backup['name']}, {size(backup['size_bytes'])}, {age(backup['finished_at'])} ago; "
            f"its volume had {size(volume['used_bytes'])} of {size(volume['size_bytes'])} in use"
        )
    else:
        lines.append("  Last backup: none yet; playbooks/backup.yml makes one")
    if drill := noted.get("drill"):
        lines.append(
            f"  Last drill: {age(drill['finished_at'])} ago, the backup {drill['backup']} in {drill['seconds']} s, "
            f"{drill['tables']} tables with {drill['rows']} rows"
        )
    else:
        lines.append("  Last drill: none yet; playbooks/restore_drill.yml makes one")
    return lines


class FilterModule:
    """Ansible's side of it."""

    def filters(self) -> dict[str, Callable]:
        return {"data_lines": data_lines}
