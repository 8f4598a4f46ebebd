"""Backups and drills: as their Jobs note them in the comment on the database, or as a file tells them.

The comment is `{"kubernetes_django": {"backup": {…}, "failed_backup": {…}, "drill": {…}, "failed_drill": {…}}}`. A
failure is in it until the next success. The file that BACKUP_STATUS_FILE names holds what is in `backup`:
`{"name": "…", "finished_at": "2026-01-31T02:00:00+00:00", "size_bytes": 12345, "scheduled": true}`. Without a file, and
without a comment, nothing is said of backups, unless a schedule asks for them and the first one is overdue. A file that
is named and not there means: no backup yet.
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

    name: str | None = None
    finished_at: datetime | None = None
    size_bytes: int | None = None
    scheduled: bool = True  # whether the next one is due some day: only then is an old one a problem
    failed: Failure | None = None
    drill_finished_at: datetime | None = None
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
            overdue = settings.BACKUP_SCHEDULED and not comment and since and _is_old(since)
            return Backup() if overdue else None
        drill, told = noted.get("drill"), noted.get("backup")
        return Backup(
            **(_backup(told) if told else {}),
            failed=_failure(noted.get("failed_backup")),
            drill_finished_at=_moment(drill["finished_at"]) if drill else None,
            drill_failed=_failure(noted.get("failed_drill")),
        )
    except FileNotFoundError:
        return Backup()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("last backup: %s", error)
        return Backup()


def judge(backup: Backup | None) -> list[Problem]:
    """What is wrong: no backup, a failed one, one too old where a schedule asks for them; a failed drill."""
    if backup is None:
        return []
    problems = []
    advice = "Read the log of the last backup Job."
    if backup.failed:
        problems.append(Problem("failed_backup", "degraded", "The last backup failed.", _advice(backup.failed)))
    elif backup.finished_at is None:
        problems.append(Problem("no_backup", "degraded", "There is no backup yet.", advice))
    elif backup.scheduled and _is_old(backup.finished_at):
        hours = settings.BACKUP_MAX_AGE_HOURS
        problems.append(Problem("old_backup", "degraded", f"The last backup is older than {hours} hours.", advice))
    if backup.drill_failed:
        summary = "The last backup could not be restored in a drill."
        problems.append(Problem("failed_drill", "degraded", summary, _advice(backup.drill_failed)))
    return problems


def _advice(failure: Failure) -> str:
    return f"It said: {failure.cause}"


def _is_old(moment: datetime) -> bool:
    return datetime.now(UTC) - moment > timedelta(hours=settings.BACKUP_MAX_AGE_HOURS)


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
