"""Compares an image's migrations with the database's, or judges migrations; prints JSON as its last line.

Run by `manage.py shell -c` in an image that need not know of it: any Django project. UNKNOWN is defined before it:

None: prints `unknown`, those that the database has and this code does not know, and `pending`, the other way round.
a list of "app.name": prints `lines` for people, and those of them that are `unsafe` for code that does not know them.

Safe is what older code cannot notice: it names its columns when it reads and writes, so a new table, an index, and a
column that may be null or has a default in the database do not concern it. A migration that knows better says so by
the attribute `safe_for_older_code = True` (or False) of its class.
"""

import json
import time
from typing import Any

from django.db import OperationalError, connection, migrations
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import NOT_PROVIDED

# By name: those of django.contrib.postgres need psycopg to be imported.
SAFE = {
    "CreateModel",
    "AddIndex",
    "RemoveIndex",
    "RenameIndex",
    "AddIndexConcurrently",
    "RemoveIndexConcurrently",
    "RemoveConstraint",
    "AlterModelOptions",
    "AlterModelManagers",
    "AlterModelTableComment",
    "CreateExtension",
    "CreateCollation",
}
DESTROYS = {"DeleteModel", "RemoveField", "RenameModel", "RenameField", "AlterModelTable"}


def main() -> None:
    """Do as the module says."""
    wait_for_database()
    executor = MigrationExecutor(connection)
    loader = executor.loader
    if UNKNOWN is None:  # noqa: F821 (defined before this text)
        recorded = set(MigrationRecorder(connection).applied_migrations())
        known = set(loader.disk_migrations)
        for migration in loader.disk_migrations.values():
            known.update(migration.replaces)
        plan = executor.migration_plan(loader.graph.leaf_nodes())
        answer = {
            "unknown": sorted(".".join(key) for key in recorded - known),
            "pending": [f"{migration.app_label}.{migration.name}" for migration, _ in plan],
        }
    else:
        lines, unsafe = [], []
        for name in UNKNOWN:  # noqa: F821
            findings = judge(loader, tuple(name.split(".", 1)))
            lines.append(f"  {name}: {'; '.join(findings) if findings else 'safe for older code'}")
            if findings:
                unsafe.append(name)
        answer = {"lines": lines, "unsafe": unsafe}
    print(json.dumps(answer))


def wait_for_database() -> None:
    """Connect. A NetworkPolicy may let a pod out only some seconds after its start: until then it is refused."""
    for _ in range(60):
        try:
            connection.ensure_connection()
            return
        except OperationalError:
            time.sleep(0.5)
    connection.ensure_connection()


def judge(loader: Any, key: tuple[str, str]) -> list[str]:
    """Why older code may not work with a migration: a text for each cause."""
    migration = loader.disk_migrations.get(key)
    if migration is None:
        return ["not a migration of the live release, so nobody knows what it did"]
    declared = getattr(migration, "safe_for_older_code", None)
    if declared is not None:
        return [] if declared else ["says itself that older code does not work with it"]
    state = loader.project_state(key, at_end=False) if key in loader.graph.nodes else None
    findings = []
    for operation in migration.operations:
        findings += judge_operation(operation, key[0], state)
        if state is not None:
            operation.state_forwards(key[0], state)
    return findings


def judge_operation(operation: Operation, app: str, state: Any) -> list[str]:
    """The same for one operation; `state` is of the models before it, or None where that is not known."""
    kind = type(operation).__name__
    if kind in SAFE or isinstance(operation, migrations.CreateModel):
        return []
    if kind == "SeparateDatabaseAndState":
        return [each for inner in operation.database_operations for each in judge_operation(inner, app, None)]
    what = operation.describe()
    if kind == "AddField":
        field = operation.field
        has_default = getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED
        if field.null or field.many_to_many or has_default or getattr(field, "generated", False):
            return []
        return [f"{what}: older code gives it no value when it adds a row (null=True or db_default would help)"]
    if kind == "AlterField" and state is not None:
        model = state.models.get((app, operation.model_name_lower))
        if model and in_database(model.fields[operation.name]) == in_database(operation.field):
            return []
    if kind in DESTROYS:
        return [f"{what}: older code still uses it"]
    if kind in ("RunPython", "RunSQL"):
        return [f"{what}: what it does cannot be seen; safe_for_older_code = True in the migration vouches for it"]
    return [f"{what}: older code may not know its rules"]


def in_database(field: Any) -> tuple:
    """What of a field the database sees."""
    _, path, arguments, keywords = field.deconstruct()
    kept = {key: value for key, value in keywords.items() if key not in getattr(field, "non_db_attrs", ())}
    return path, arguments, kept


main()
