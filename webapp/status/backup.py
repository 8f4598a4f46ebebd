"""The last backup: as the backup's Job notes it in the comment on the database, or as a file tells it.

The comment is `{"kubernetes_django": {"backup": {…}}}`, the file that BACKUP_STATUS_FILE names holds what is inside,
`{"name": "…", "finished_at": "2026-01-31T02:00:00+00:00", "size_bytes": 12345, "scheduled": true}`. Without a file, and
without a comment, nothing is said of backups; a file that is named and not there means: no backup yet.
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
    scheduled: bool = True  # whether the next one is due some day: only then is an old one a problem


def last(comment: str | None) -> Backup | None:
    """The last backup, or None when nothing is known of backups.

    Args:
        comment: the comment on the database, whoever wrote it.
    """
    try:
        if settings.BACKUP_STATUS_FILE:
            told = json.loads(Path(settings.BACKUP_STATUS_FILE).read_text(encoding="utf-8"))
        elif comment and comment.startswith('{"kubernetes_django": '):
            told = json.loads(comment)["kubernetes_django"]["backup"]
        else:
            return None
        finished_at = datetime.fromisoformat(told["finished_at"])
        if finished_at.tzinfo is None:
            finished_at = finished_at.replace(tzinfo=UTC)
        scheduled = bool(told.get("scheduled", True))
        return Backup(str(told["name"]), finished_at, int(told["size_bytes"]), scheduled)
    except FileNotFoundError:
        return Backup()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("last backup: %s", error)
        return Backup()


def judge(backup: Backup | None) -> list[Problem]:
    """A problem when the last backup is missing, or too old where a schedule asks for them."""
    if backup is None:
        return []
    advice = "Read the log of the last backup Job."
    if backup.finished_at is None:
        return [Problem("no_backup", "degraded", "There is no backup yet.", advice)]
    limit = timedelta(hours=settings.BACKUP_MAX_AGE_HOURS)
    if backup.scheduled and datetime.now(UTC) - backup.finished_at > limit:
        hours = settings.BACKUP_MAX_AGE_HOURS
        return [Problem("old_backup", "degraded", f"The last backup is older than {hours} hours.", advice)]
    return []
