"""Look at the database, the migrations and the process, once: everything that page, JSON and metrics show.

Two queries, whatever there is to look at; and, once a second, the health check of a connection used before.
"""

from __future__ import annotations

import logging
import mmap
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, connection

from kubernetes_django.bounded_postgresql import deadline, remaining
from status import backup, migrations, runtime
from status.errors import Problem, explain

log = logging.getLogger("status")

SLOW_MS = 250
NEARLY_FULL = 0.9  # of the connections

_FACTS = """
SELECT current_setting('server_version'), current_database(), current_user, pg_is_in_recovery(),
  current_setting('transaction_read_only') = 'on', pg_postmaster_start_time(),
  CASE WHEN %s THEN pg_database_size(current_database()) END,
  (SELECT count(*) FROM pg_stat_get_backend_idset() AS id WHERE pg_stat_get_backend_dbid(id) <> 0),
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true), '0')::int,
  (SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()),
  array(SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(quote_ident(name)) IS NULL)
"""


@dataclass(frozen=True)
class Database:
    """What the server says of itself."""

    connect_ms: float | None  # of the connection in use, which may be an old one
    query_ms: float
    version: str
    name: str
    user: str
    replica: bool
    read_only: bool
    started_at: datetime
    size_bytes: int
    tls: str | None  # its version; None: not encrypted
    connections_used: int
    connections_allowed: int
    comment: str | None
    missing_tables: tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """One look at everything. `database` and `migrations` are None when the database did not answer."""

    checked_at: datetime
    database: Database | None
    migrations: migrations.Comparison | None
    runtime: runtime.Runtime
    backup: backup.Backup | None
    problems: tuple[Problem, ...]

    @property
    def state(self) -> str:
        """`operational`, `degraded` or `down`."""
        levels = {problem.level for problem in self.problems}
        return "down" if "down" in levels else "degraded" if levels else "operational"

    @property
    def reason(self) -> str:
        """The state as a sentence."""
        if self.problems:
            return self.problems[0].summary
        return "The database answers and every migration is applied."


def look(timeout: float | None = None) -> Snapshot:
    """Look now. Takes `timeout` seconds at most (default: the setting STATUS_TIMEOUT)."""
    problems: list[Problem] = []
    database = comparison = None
    try:
        with deadline(timeout or settings.STATUS_TIMEOUT):
            database = _ask()
            comparison = _compare(database)
    except DatabaseError as error:
        log.warning("database: %s", error)
        problems.append(explain(error))
        connection.close_if_unusable_or_obsolete()
    if database and comparison:
        problems += _judge(database, comparison)
    last_backup = backup.last(database and database.comment, comparison and comparison.since)
    problems += backup.judge(last_backup)
    problems.sort(key=lambda problem: problem.level != "down")
    return Snapshot(datetime.now(UTC), database, comparison, runtime.runtime(), last_backup, tuple(problems))


class _Size:
    """The database's size, asked for every 10 seconds: the server looks at every file for it."""

    KEEP = 10.0  # seconds

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._bytes = 0

    def is_old(self) -> bool:
        """Whether it is time to ask."""
        return time.monotonic() - self._asked_at >= self.KEEP

    def update(self, size: int | None) -> int:
        """The size: `size` when it was asked for, else the last one."""
        if size is not None:
            self._bytes, self._asked_at = size, time.monotonic()
        return self._bytes


_size = _Size()


def _ask() -> Database:
    connection.ensure_connection()
    tables = _expected_tables()
    with connection.cursor() as cursor:
        start = time.perf_counter()
        cursor.execute(_limited(_FACTS), [_size.is_old(), list(tables)])
        row = cursor.fetchone()
        query_ms = (time.perf_counter() - start) * 1000
    version, name, user, replica, read_only, started_at, size, used, allowed, comment, missing = row
    return Database(
        connect_ms=_milliseconds(connection.connect_seconds),
        query_ms=round(query_ms, 1),
        version=version.split()[0],
        name=name,
        user=user,
        replica=replica,
        read_only=read_only,
        started_at=started_at,
        size_bytes=_size.update(size),
        tls=connection.connection.info.ssl_attribute("protocol"),
        connections_used=used,
        connections_allowed=allowed,
        comment=comment,
        missing_tables=tuple(missing),
    )


def _limited(sql: str) -> str:
    """`sql`, to be ended by the server before the deadline: a client that only goes away leaves it running."""
    milliseconds = max(1, int((remaining(settings.STATUS_TIMEOUT) - 0.2) * 1000))
    return f"SET LOCAL statement_timeout = {milliseconds}; {sql}"  # one message: one implicit transaction


def _compare(database: Database) -> migrations.Comparison:
    recorded: list[tuple[str, str, datetime]] = []
    if migrations.TABLE not in database.missing_tables:
        with connection.cursor() as cursor:
            cursor.execute(_limited(migrations.RECORDED_SQL))
            recorded = cursor.fetchall()
    return migrations.compare(migrations.known(), recorded)


def _judge(database: Database, comparison: migrations.Comparison) -> list[Problem]:
    """What is wrong with a database that answers."""
    found = _judge_schema(database, comparison) + _judge_server(database)
    return [Problem(code, "degraded", summary, advice) for code, summary, advice in found]


def _judge_schema(database: Database, comparison: migrations.Comparison) -> list[tuple[str, str, str]]:
    """Code, summary and advice: of tables and migrations that are not those of this release."""
    found = []
    migrate = "Run the migrations: python manage.py migrate_locked."
    if comparison.applied == 0:
        found.append(("no_migrations", "No migration has been applied to this database yet.", migrate))
    elif pending := comparison.pending:
        summary = f"{_count(pending, 'migration')} of this release {_is(pending)} not applied."
        found.append(("pending_migrations", summary, migrate))
    elif missing := database.missing_tables:
        summary = f"{_count(missing, 'table')} {_is(missing)} missing although every migration is recorded as applied."
        found.append(("missing_tables", summary, "Somebody dropped what migrations made: restore a backup."))
    known_apps = {app.label for app in comparison.apps if app.total}
    if newer := [name for name in comparison.unknown if name[0] in known_apps]:
        summary = f"The database is ahead of this release by {_count(newer, 'migration')}."
        advice = "Fine during a release and after a rollback; otherwise deploy the release that brought them."
        found.append(("unknown_migrations", summary, advice))
    return found


def _judge_server(database: Database) -> list[tuple[str, str, str]]:
    """Code, summary and advice: of a server that takes no writes, is slow, or nearly full."""
    found = []
    if database.replica:
        summary = "The database is a replica and takes no writes."
        found.append(("replica", summary, "Point POSTGRES_HOST at the primary."))
    elif database.read_only:
        summary = "The database takes no writes: it is read-only."
        advice = "Look at default_transaction_read_only of server, database and role, and at the disk's free space."
        found.append(("read_only", summary, advice))
    if database.query_ms > SLOW_MS:
        advice = "Look for long transactions, locks, and a busy disk or CPU on the database's node."
        found.append(("slow", "The database answers slowly.", advice))
    if database.connections_used >= NEARLY_FULL * database.connections_allowed:
        summary = "The database has hardly a free connection left."
        found.append(("nearly_full", summary, "Lower replicas, workers or threads, or raise max_connections."))
    return found


def _count(things: Any, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _is(things: Any) -> str:
    return "is" if len(things) == 1 else "are"


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


@cache
def _expected_tables() -> tuple[str, ...]:
    """The tables that this code's models and Django's own record of migrations need."""
    models = apps.get_models(include_auto_created=True)
    tables = {model._meta.db_table for model in models if model._meta.managed and not model._meta.proxy}
    return (migrations.TABLE, *sorted(tables))


class Readiness:
    """Whether this pod has reached its database, asked at most once a second until it has.

    With WAIT_FOR_SCHEMA that takes a schema with every migration of this code; migrations that this code does not know
    do not matter. From then on the pod stays ready. An outage of the database takes every pod at once: were they not
    ready, the Service would have none left, and users would find the connection refused where a page can tell them what
    is the matter. And when the database is back, nobody has to wait until that has got about.
    """

    KEEP = 1.0  # seconds

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._ready = False
        # Shared by the workers, which are forked from the process that makes this: each probe meets another one.
        self._reached = mmap.mmap(-1, 1)

    def ready(self) -> bool:
        """One query, bounded by READY_TIMEOUT. Callers meanwhile wait for its result and share it."""
        if self._reached[0]:
            return True
        with self._lock:
            if time.monotonic() - self._asked_at >= self.KEEP:
                self._ready = self._ask()
                self._asked_at = time.monotonic()
            return self._ready

    def _ask(self) -> bool:
        try:
            with deadline(settings.READY_TIMEOUT), connection.cursor() as cursor:
                cursor.execute(migrations.RECORDED_SQL if settings.WAIT_FOR_SCHEMA else "SELECT 1")
                if settings.WAIT_FOR_SCHEMA:
                    pending = migrations.compare(migrations.known(), cursor.fetchall()).pending
                    if pending:
                        log.warning("not ready: the database lacks %s", ", ".join(".".join(key) for key in pending))
                        return False
                self._reached[0] = 1
                return True
        except DatabaseError as error:
            connection.close_if_unusable_or_obsolete()
            # During a restore no pod has a database: taken out of the Service, none of them could say so.
            if explain(error).code == "paused":
                return True
            log.warning("not ready: %s", error)
            return False
