"""Backups and drills: as their Jobs note them in the comment on the database, or as a file tells them.

The comment is `{"kubernetes_django": {"backup": {…}, "failed_backup": {…}, "drill": {…}, "failed_drill": {…}}}`. A
failure is in it until the next success. The file that BACKUP_STATUS_FILE names holds what is in `backup`:
`{"name": "…", "finished_at": "2026-01-31T02:00:00+00:00", "size_bytes": 12345, "scheduled": true}`. Without a file, and
without that comment, nothing is said of backups, unless a schedule asks for backups or drills and the first one is
overdue. A file that is named and not there means: no backup yet. A Job that is killed, or whose pod never starts, notes
nothing: so one that is too old counts as well, where a schedule asks for more.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from status.errors import Problem

log = logging.getLogger("status")


@dataclass(frozen=True)
class Failure:
    """The last try, where it failed."""

    finished_at: datetime
    cause: str


@dataclass(frozen=True)
class Backup:
    """The last backup, and the last drill; all None when there is none yet."""

    unknown: bool = False  # nobody can note any: the comment on the database is somebody else's
    name: str | None = None
    finished_at: datetime | None = None
    size_bytes: int | None = None
    scheduled: bool = True  # whether the next one is due some day: only then is an old one a problem
    failed: Failure | None = None
    drill_finished_at: datetime | None = None
    drill_due_since: datetime | None = None  # where a schedule asks for drills: the last one, or the site's beginning
    drill_failed: Failure | None = None


def last(comment: str | None, since: datetime | None = None) -> Backup | None:
    """The last backup, or None when nothing is known of backups.

    Args:
        comment: the comment on the database, whoever wrote it.
        since: when the first migration was applied to the database.
    """
    try:
        if settings.BACKUP_STATUS_FILE:
            noted = {"backup": json.loads(Path(settings.BACKUP_STATUS_FILE).read_text(encoding="utf-8"))}
        elif comment and comment.startswith('{"kubernetes_django": '):
            noted = json.loads(comment)["kubernetes_django"]
        else:
            return _unnoted(comment, since)
        return _noted(noted, since)
    except FileNotFoundError:
        return Backup()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("last backup: %s", error)
        return Backup()


def judge(backup: Backup | None) -> list[Problem]:
    """What is wrong: no backup or drill, a failed one, one too old where a schedule asks for them."""
    if backup is None:
        return []
    return _judge_backup(backup) + _judge_drill(backup)


def _judge_backup(backup: Backup) -> list[Problem]:
    hours = settings.BACKUP_MAX_AGE_HOURS
    # A schedule may be younger than the last backup that could note it.
    scheduled = backup.scheduled or settings.BACKUP_SCHEDULED
    advice = "Read the log of the last backup Job."
    if backup.unknown:
        summary = "Nothing is known of backups: the comment on the database is somebody else's."
        return [Problem("unknown_backup", "degraded", summary, "Set it to NULL: the next backup is noted there.")]
    if backup.failed:
        return [Problem("failed_backup", "degraded", "The last backup failed.", _advice(backup.failed))]
    if backup.finished_at is None:
        return [Problem("no_backup", "degraded", "There is no backup yet.", advice)]
    if scheduled and _is_old(backup.finished_at, hours):
        return [Problem("old_backup", "degraded", f"The last backup is older than {hours} hours.", advice)]
    return []


def _judge_drill(backup: Backup) -> list[Problem]:
    hours = settings.DRILL_MAX_AGE_HOURS
    if backup.drill_failed:
        summary = "The last backup could not be restored in a drill."
        return [Problem("failed_drill", "degraded", summary, _advice(backup.drill_failed))]
    if backup.drill_due_since and _is_old(backup.drill_due_since, hours):
        advice = "Read the log of the last drill Job, or make one now: playbooks/restore_drill.yml."
        return [Problem("old_drill", "degraded", f"No drill has passed for {hours} hours.", advice)]
    return []


def _advice(failure: Failure) -> str:
    return f"It said: {failure.cause}"


def _is_old(moment: datetime, hours: int) -> bool:
    return datetime.now(UTC) - moment > timedelta(hours=hours)


def _unnoted(comment: str | None, since: datetime | None) -> Backup | None:
    """What there is to say where no Job has noted anything."""
    overdue = since and (
        (settings.BACKUP_SCHEDULED and _is_old(since, settings.BACKUP_MAX_AGE_HOURS))
        or (settings.DRILL_SCHEDULED and _is_old(since, settings.DRILL_MAX_AGE_HOURS))
    )
    return Backup(unknown=bool(comment)) if overdue else None


def _noted(noted: dict[str, Any], since: datetime | None) -> Backup:
    """What Jobs have noted, or the file."""
    drill, told = noted.get("drill"), noted.get("backup")
    drilled = _moment(drill["finished_at"]) if drill else None
    # The file tells nothing of drills.
    drills_told = settings.DRILL_SCHEDULED and not settings.BACKUP_STATUS_FILE
    return Backup(
        **(_backup(told) if told else {}),
        failed=_failure(noted.get("failed_backup")),
        drill_finished_at=drilled,
        drill_due_since=(drilled or since) if drills_told else None,
        drill_failed=_failure(noted.get("failed_drill")),
    )


def _backup(told: dict[str, Any]) -> dict[str, Any]:
    """The fields of Backup that a note of a backup gives."""
    return {
        "name": str(told["name"]),
        "finished_at": _moment(told["finished_at"]),
        "size_bytes": int(told["size_bytes"]),
        "scheduled": bool(told.get("scheduled", True)),
    }


def _failure(told: dict[str, Any] | None) -> Failure | None:
    return Failure(_moment(told["finished_at"]), str(told["cause"])) if told else None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
