"""Which migrations this code knows, and how they compare with those that the database has recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

from django.db.migrations.loader import MigrationLoader

Key = tuple[str, str]  # app label, migration name

TABLE = "django_migrations"  # not from MigrationRecorder: that needs the settings on import
# The one query for migrations, in the order in which they were applied.
RECORDED_SQL = "SELECT app, name, applied FROM django_migrations ORDER BY id"


@dataclass(frozen=True)
class Known:
    """The migrations on disk, in the order in which they would run."""

    order: tuple[Key, ...]
    replaces: dict[Key, tuple[Key, ...]]  # squashed migration -> those it stands for

    def __contains__(self, key: Key) -> bool:
        return key in self.order or any(key in old for old in self.replaces.values())


@cache
def known() -> Known:
    """Load the migration graph, once a process. Asks no database."""
    loader = MigrationLoader(None)
    order: dict[Key, None] = {}
    for leaf in sorted(loader.graph.leaf_nodes()):
        order |= dict.fromkeys(loader.graph.forwards_plan(leaf))
    replaces = {key: tuple(loader.disk_migrations[key].replaces) for key in order}
    return Known(tuple(order), {key: old for key, old in replaces.items() if old})


@dataclass
class AppMigrations:
    """The migrations of one Django app."""

    label: str
    applied: int = 0
    pending: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many this code knows."""
        return self.applied + len(self.pending)


@dataclass(frozen=True)
class Comparison:
    """Code against database."""

    apps: list[AppMigrations]
    pending: list[Key]  # in this code, not in the database
    unknown: list[Key]  # in the database, not in this code: a newer release has been here
    latest: Key | None
    latest_at: datetime | None
    since: datetime | None  # when the first one was applied

    @property
    def applied(self) -> int:
        """How many of this code's migrations the database has."""
        return sum(app.applied for app in self.apps)

    @property
    def total(self) -> int:
        """How many migrations this code has."""
        return sum(app.total for app in self.apps)


def compare(code: Known, recorded: list[tuple[str, str, datetime]]) -> Comparison:
    """Compare `code` with the rows of RECORDED_SQL.

    A squashed migration counts as applied when all that it replaces are: Django records it at its next run.
    """
    names = {(app, name) for app, name, _ in recorded}
    apps: dict[str, AppMigrations] = {}
    pending = []
    for key in code.order:
        app = apps.setdefault(key[0], AppMigrations(key[0]))
        old = code.replaces.get(key, ())
        if key in names or (old and names.issuperset(old)):
            app.applied += 1
        else:
            app.pending.append(key[1])
            pending.append(key)
    unknown = [(app, name) for app, name, _ in recorded if (app, name) not in code]
    for app, name in unknown:
        apps.setdefault(app, AppMigrations(app)).unknown.append(name)
    latest = recorded[-1] if recorded else None
    return Comparison(
        apps=sorted(apps.values(), key=lambda app: app.label),
        pending=pending,
        unknown=unknown,
        latest=latest[:2] if latest else None,
        latest_at=latest[2] if latest else None,
        since=recorded[0][2] if recorded else None,
    )
