"""`migrate`, one runner at a time, and never in a running site's way for long.

Takes the arguments of `migrate`. All three ways to migrate (Job, start-up, by hand) go through here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import DatabaseError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from kubernetes_django.environment import Environment
from status import errors

# The advisory lock's number: any will do that never changes. PostgreSQL keeps it per database.
LOCK = int.from_bytes(b"migrate", "big")
NO_LOCK = {"55P03", "40P01"}  # SQLSTATEs: lock_not_available, deadlock_detected
MAY_PASS = {"refused", "timeout", "restarting", "paused", "unknown_host", "too_many_connections"}

# Option, environment variable, default, least, help. The site's queries queue up behind a migration that waits for a
# lock, so that wait has to be shorter than their POSTGRES_STATEMENT_TIMEOUT.
BOUNDS = (
    ("--database-wait", "MIGRATE_DATABASE_WAIT", 30, 0, "seconds to wait for a database that is starting"),
    ("--runner-wait", "MIGRATE_RUNNER_WAIT", 300, 0, "seconds to wait while another runner migrates"),
    ("--lock-timeout", "MIGRATE_LOCK_TIMEOUT", 2, 1, "seconds that a statement may wait for a table's lock"),
    ("--check-wait", "MIGRATE_CHECK_WAIT", 0, 0, "with --check: seconds to wait for another runner's migrations"),
    ("--lock-attempts", "MIGRATE_LOCK_ATTEMPTS", 5, 1, "how often to try when a table's lock was not to be had"),
)


class Command(migrate.Command):
    """`migrate` under an advisory lock, with bounded lock waits."""

    help = "Apply migrations, one runner at a time, with bounded waits for locks. Takes what migrate takes."

    def add_arguments(self, parser: CommandParser) -> None:
        """The arguments of migrate, and the bounds. Environment variables give their defaults."""
        super().add_arguments(parser)
        env = Environment()
        for option, variable, default, least, text in BOUNDS:
            value = env.number(variable, default, least, 86_400)
            parser.add_argument(option, type=int, default=value, help=f"{text} (or {variable}; default {default})")
        env.finish()

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate. Raises CommandError or what the migration raised; the exit code is then not 0."""
        connection = connections[options["database"]]
        database_wait, runner_wait, lock_timeout, check_wait, lock_attempts = (
            options.pop(option.removeprefix("--").replace("-", "_")) for option, *_ in BOUNDS
        )
        start = time.monotonic()
        self._wait_for_database(connection, database_wait)
        if options["plan"] or options["check_unapplied"]:  # only look: need no lock
            if options["check_unapplied"]:
                self._wait_for_schema(connection, check_wait)
            super().handle(*args, **options)
            return
        try:
            self._be_the_only_runner(connection, runner_wait)
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{lock_timeout}s"])
                cursor.execute("SET statement_timeout = 0")  # the web's limit; a migration may take its time
            before = set(MigrationRecorder(connection).applied_migrations())
            self._migrate(connection, lock_attempts, lambda: super(Command, self).handle(*args, **options))
            after = set(MigrationRecorder(connection).applied_migrations())
        finally:
            connection.close()  # gives the advisory lock back
        self.stdout.write(_difference(before, after, time.monotonic() - start))

    def _wait_for_database(self, connection: BaseDatabaseWrapper, seconds: int) -> None:
        """Connect, again and again while the cause is one that passes by itself."""
        end = time.monotonic() + seconds
        told = ""
        while True:
            try:
                connection.ensure_connection()
                return
            except OperationalError as error:
                problem = errors.explain(error)
                if problem.code not in MAY_PASS or time.monotonic() >= end:
                    raise CommandError(f"{problem.summary} {problem.advice}\n{error}") from None
                if problem.code != told:
                    self.stdout.write(f"{problem.summary} Waiting up to {seconds} s.")
                    told = problem.code
            time.sleep(0.5)

    def _wait_for_schema(self, connection: BaseDatabaseWrapper, seconds: int) -> None:
        """Wait until nothing is pending. The check that follows tells when that did not come about."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            executor = MigrationExecutor(connection)
            if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
                return
            time.sleep(1)

    def _be_the_only_runner(self, connection: BaseDatabaseWrapper, seconds: int) -> None:
        """Take the advisory lock, which lives as long as the connection."""
        end = time.monotonic() + seconds
        told = False
        with connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
                if cursor.fetchone()[0]:
                    return
                if time.monotonic() >= end:
                    raise CommandError(
                        f"Another runner has been migrating for more than {seconds} s: wait for it, or end it."
                        f" {_holders(connection, advisory=True)}"
                    )
                if not told:
                    self.stdout.write(f"Another runner is migrating; waiting up to {seconds} s.")
                    told = True
                time.sleep(0.5)

    def _migrate(self, connection: BaseDatabaseWrapper, attempts: int, run: Callable[[], None]) -> None:
        """Run, and run again when a table's lock was not to be had. What was applied by then stays applied."""
        invalid = _invalid_indexes(connection)
        for attempt in range(1, attempts + 1):
            try:
                # CREATE INDEX CONCURRENTLY leaves an unusable index behind, in whose way the next attempt is.
                for index in _invalid_indexes(connection) - invalid:
                    with connection.cursor() as cursor:
                        cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
                run()
                return
            except DatabaseError as error:
                if getattr(error.__cause__, "pgcode", None) not in NO_LOCK:
                    raise
                holders = _holders(connection)
                if attempt == attempts:
                    unfinished = ", ".join(sorted(_invalid_indexes(connection) - invalid))
                    raise CommandError(
                        f"A table's lock was not to be had in {attempts} attempts: end the transaction that holds it,"
                        f" then run this again. {holders}"
                        + (f" First DROP INDEX {unfinished}, which is unfinished." if unfinished else "")
                        + f"\n{error}"
                    ) from None
            pause = min(2 ** (attempt - 1), 8)
            self.stdout.write(f"\nA table's lock was not to be had. {holders} Again in {pause} s.")
            time.sleep(pause)


def _holders(connection: BaseDatabaseWrapper, *, advisory: bool = False) -> str:
    """Who holds locks that a migration may be waiting for, as a sentence."""
    kind = "advisory" if advisory else "relation"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT pid, usename, application_name FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE locktype = %s AND granted AND datname = current_database() AND pid <> pg_backend_pid()"
            " ORDER BY pid LIMIT 5",
            [kind],
        )
        found = [f"{name or 'unnamed'} (user {user}, pid {pid})" for pid, user, name in cursor.fetchall()]
    return f"Locks are held by {', '.join(found)}." if found else "Nobody holds one any more."


def _invalid_indexes(connection: BaseDatabaseWrapper) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
        return {row[0] for row in cursor.fetchall()}


def _difference(before: set[tuple[str, str]], after: set[tuple[str, str]], seconds: float) -> str:
    """`3 migrations applied: notes.0002_…, … in 0.4 s`."""
    parts = []
    for names, verb in ((after - before, "applied"), (before - after, "reversed")):
        if names:
            listed = [".".join(name) for name in sorted(names)]
            more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
            plural = "" if len(listed) == 1 else "s"
            parts.append(f"{len(listed)} migration{plural} {verb}: {', '.join(listed[:5])}{more}")
    return f"{'; '.join(parts)} in {seconds:.1f} s" if parts else "no migrations to apply"
