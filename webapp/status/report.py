"""A snapshot as JSON-able facts, as the cards of the page, and as plain text."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.conf import settings

from status import checks
from status.backup import Backup
from status.migrations import Comparison
from status.runtime import Runtime

Facts = dict[str, Any]


def facts(snapshot: checks.Snapshot) -> Facts:
    """The snapshot, by docs/status.schema.json.

    With DJANGO_STATUS_DETAILS off, nothing that helps an attacker: no names, versions, addresses or advice.
    """
    database, migrations = snapshot.database, snapshot.migrations
    told: Facts = {
        "status": snapshot.state,
        "reason": snapshot.reason,
        "checked_at": _iso(snapshot.checked_at),
        "details": settings.STATUS_DETAILS,
        "database": {"reachable": database is not None},
        "migrations": migrations and {"applied": migrations.applied, "total": migrations.total},
    }
    if not settings.STATUS_DETAILS:
        if told["status"] != "operational":
            told["reason"] = _PUBLIC_REASONS[told["status"]]
        return told
    place = settings.DATABASES["default"]
    told["problems"] = [asdict(problem) for problem in snapshot.problems]
    told["database"] |= {"host": place["HOST"], "port": place["PORT"], "name": place["NAME"], "user": place["USER"]}
    if database:
        told["database"] |= _database_facts(database)
    if migrations:
        told["migrations"] |= _migrations_facts(migrations)
    told["runtime"] = _runtime_facts(snapshot.runtime)
    if snapshot.backup:
        told["backup"] = _backup_facts(snapshot.backup)
    return told


def _database_facts(database: checks.Database) -> Facts:
    return {
        "name": database.name,
        "user": database.user,
        "version": database.version,
        "connect_ms": database.connect_ms,
        "query_ms": database.query_ms,
        "tls": database.tls,
        "role": "replica" if database.replica else "primary",
        "read_only": database.read_only,
        "started_at": _iso(database.started_at),
        "size_bytes": database.size_bytes,
        "connections": {"used": database.connections_used, "allowed": database.connections_allowed},
        "missing_tables": list(database.missing_tables),
    }


def _migrations_facts(migrations: Comparison) -> Facts:
    latest = migrations.latest
    return {
        "latest": latest and {"name": ".".join(latest), "applied_at": _iso(migrations.latest_at)},
        "pending": [".".join(key) for key in migrations.pending],
        "unknown": [".".join(key) for key in migrations.unknown],
        "apps": [
            {
                "app": app.label,
                "applied": app.applied,
                "total": app.total,
                "pending": len(app.pending),
                "unknown": len(app.unknown),
            }
            for app in migrations.apps
        ],
    }


def _runtime_facts(runtime: Runtime) -> Facts:
    names = ("release", "revision", "pod", "node", "namespace", "python", "django", "psycopg", "gunicorn")
    return {name: getattr(runtime, name) or None for name in names} | {"started_at": _iso(runtime.started_at)}


def _backup_facts(backup: Backup) -> Facts:
    return {
        "name": backup.name,
        "finished_at": backup.finished_at and _iso(backup.finished_at),
        "size_bytes": backup.size_bytes,
        "failed_at": backup.failed and _iso(backup.failed.finished_at),
        "drill_finished_at": backup.drill_finished_at and _iso(backup.drill_finished_at),
        "drill_failed_at": backup.drill_failed and _iso(backup.drill_failed.finished_at),
    }


_PUBLIC_REASONS = {"degraded": "The site works with limitations.", "down": "The site cannot reach its database."}


class Row(NamedTuple):
    """A line of a card. `tone` is empty, `good`, `warn` or `bad`."""

    label: str
    value: str
    tone: str = ""
    note: str = ""  # a quiet addition to `value`
    moment: str = ""  # the ISO time that `value` tells
    items: tuple[str, ...] = ()  # what `value` lists, when it is a list


class Card(NamedTuple):
    """A titled list of rows; `name` is its id on the page."""

    name: str
    title: str
    rows: list[Row]


def cards(told: Facts) -> list[Card]:
    """What the page shows below its banner, in order."""
    now = told["checked_at"]
    made = [_database_card(told["database"], now), _migrations_card(told["migrations"], now)]
    if "runtime" in told:
        made.append(_runtime_card(told["runtime"], now))
    if "backup" in told:
        made.append(_backup_card(told["backup"], now))
    return made


def text(told: Facts, shown: list[Card]) -> str:
    """The same for a terminal, a ticket or a chat."""
    lines = [
        f"System Status: {told['status'].capitalize()}",
        told["reason"],
        f"Checked {told['checked_at'][:10]} {format_clock(told['checked_at'])}",
    ]
    for problem in told.get("problems", []):
        lines += ["", f"! {problem['summary']}", f"  {problem['advice']}"]
    for card in shown:
        width = max(len(row.label) for row in card.rows)
        lines += [
            "",
            card.title,
            *(f"  {row.label:<{width}}  {row.value}{row.note and f', {row.note}'}" for row in card.rows),
        ]
    return "\n".join(lines) + "\n"


def _database_card(told: Facts, now: str) -> Card:
    up = told["reachable"]
    rows = [Row("State", "Reachable" if up else "Not reachable", "good" if up else "bad")]
    if "host" not in told:
        return Card("database", "Database", rows)
    if up:
        if told["connect_ms"] is not None:
            rows.append(Row("Connect time", f"{told['connect_ms']} ms"))
        rows += [
            Row("Query time", f"{told['query_ms']} ms"),
            Row("Server", f"PostgreSQL {told['version']}"),
        ]
    rows += [
        Row("Database", told["name"]),
        Row("User", told["user"]),
        Row("Address", f"{told['host']}:{told['port']}"),
    ]
    if up:
        writes = "read-only" if told["read_only"] else "read and write"
        connections = told["connections"]
        rows += [
            Row("Encryption", told["tls"] or "none"),
            Row("Role", f"{told['role']}, {writes}", "warn" if told["read_only"] else ""),
            _moment("Up since", told["started_at"], now),
            Row("Size", format_size(told["size_bytes"])),
            Row("Connections", f"{connections['used']} of {connections['allowed']}"),
        ]
        if told["missing_tables"]:
            rows.append(_list("Missing tables", told["missing_tables"], "bad"))
    return Card("database", "Database", rows)


def _migrations_card(told: Facts | None, now: str) -> Card:
    if not told:
        return Card("migrations", "Migrations", [Row("Applied", "unknown without the database", "warn")])
    done = told["applied"] == told["total"]
    rows = [Row("Applied", f"{told['applied']} of {told['total']}", "good" if done else "warn")]
    if "latest" not in told:
        return Card("migrations", "Migrations", rows)
    if told["pending"]:
        rows.append(_list("Pending", told["pending"], "warn"))
    if told["unknown"]:
        rows.append(_list("Unknown here", told["unknown"], "warn"))
    if latest := told["latest"]:
        rows += [Row("Latest", latest["name"]), _moment("Applied at", latest["applied_at"], now)]
    rows.append(_list("By app", [f"{app['app']} {app['applied']}/{app['total']}" for app in told["apps"]]))
    return Card("migrations", "Migrations", rows)


def _runtime_card(told: Facts, now: str) -> Card:
    labels = {
        "release": "Release",
        "revision": "Revision",
        "pod": "Pod",
        "node": "Node",
        "namespace": "Namespace",
    }
    versions = {"Django": "django", "Python": "python", "psycopg2": "psycopg", "gunicorn": "gunicorn"}
    rows = [Row(label, told[name]) for name, label in labels.items() if told[name]]
    rows.append(_list("Versions", [f"{label} {told[name]}" for label, name in versions.items()]))
    rows.append(_moment("Up since", told["started_at"], now))
    return Card("runtime", "Runtime", rows)


def _backup_card(told: Facts, now: str) -> Card:
    rows = [Row("Last backup", "none known", "warn")]
    if told["finished_at"]:
        rows = [
            _moment("Last backup", told["finished_at"], now),
            Row("Name", told["name"]),
            Row("Size", format_size(told["size_bytes"])),
        ]
    if told["failed_at"]:
        rows.append(_moment("Failed", told["failed_at"], now, "bad"))
    if told["drill_finished_at"]:
        rows.append(_moment("Last drill", told["drill_finished_at"], now))
    if told["drill_failed_at"]:
        rows.append(_moment("Drill failed", told["drill_failed_at"], now, "bad"))
    return Card("backup", "Backup", rows)


def _list(label: str, items: list[str], tone: str = "") -> Row:
    return Row(label, ", ".join(items), tone, items=tuple(items))


def _moment(label: str, iso: str, now: str, tone: str = "") -> Row:
    return Row(label, format_time(iso), tone, note=f"{format_age(iso, now)} ago", moment=iso)


def format_time(iso: str) -> str:
    """`2026-01-31 14:05 UTC`."""
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def format_clock(iso: str) -> str:
    """`14:05:09 UTC`."""
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%H:%M:%S} UTC"


def format_age(iso: str, now: str) -> str:
    """From `iso` to `now` in its two largest units: `3 d 4 h`, `5 min 2 s`."""
    seconds = max(0, int((datetime.fromisoformat(now) - datetime.fromisoformat(iso)).total_seconds()))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{count} {unit}" for count, unit in parts[:2])


def format_size(count: int) -> str:
    """Bytes, in the unit that leaves one to three digits before the point."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
