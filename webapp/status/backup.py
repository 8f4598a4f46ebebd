"""The last backup, as told by the file that BACKUP_STATUS_FILE names.

The backup writes it (in the cluster: a ConfigMap, mounted, so that it changes without a restart):
`{"name": "…", "finished_at": "2026-01-31T02:00:00+00:00", "size_bytes": 12345}`. No file: no backup yet.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings

from status.errors import Problem

log = logging.getLogger("status")


@dataclass(frozen=True)
class Backup:
    """The last backup; all None when there is none yet."""

    name: str | None = None
    finished_at: datetime | None = None
    size_bytes: int | None = None


def last() -> Backup | None:
    """The last backup, or None when backups are not configured."""
    if not settings.BACKUP_STATUS_FILE:
        return None
    try:
        told = json.loads(Path(settings.BACKUP_STATUS_FILE).read_text(encoding="utf-8"))
        finished_at = datetime.fromisoformat(told["finished_at"])
        if finished_at.tzinfo is None:
            finished_at = finished_at.replace(tzinfo=UTC)
        return Backup(str(told["name"]), finished_at, int(told["size_bytes"]))
    except FileNotFoundError:
        return Backup()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("BACKUP_STATUS_FILE: %s", error)
        return Backup()


def judge(backup: Backup | None) -> list[Problem]:
    """A problem when backups are configured and the last one is missing or too old."""
    if backup is None:
        return []
    advice = "Read the log of the last backup Job."
    if backup.finished_at is None:
        return [Problem("no_backup", "degraded", "There is no backup yet.", advice)]
    limit = timedelta(hours=settings.BACKUP_MAX_AGE_HOURS)
    if datetime.now(UTC) - backup.finished_at > limit:
        hours = settings.BACKUP_MAX_AGE_HOURS
        return [Problem("old_backup", "degraded", f"The last backup is older than {hours} hours.", advice)]
    return []
