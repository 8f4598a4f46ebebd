"""migrate_locked, and the migrations themselves."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import servers
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from status import migrations
from status.management.commands.migrate_locked import LOCK

BROKEN = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("notes", "0004_created_at_index")]
    operations = [{operation}]
"""


@pytest.fixture
def empty(postgres):
    """An empty database of this test's own, owned by the role that migrates."""
    name = f"migrate_{time.monotonic_ns()}"
    postgres.create(name, template="empty")
    yield name
    postgres.drop(name)


@pytest.fixture
def migrated(postgres):
    name = f"migrate_{time.monotonic_ns()}"
    postgres.create(name, template="migrated")
    yield name
    postgres.drop(name)


def migrate(env, *arguments):
    return servers.manage("migrate_locked", *arguments, env=env, check=False)


@pytest.fixture
def one_more(tmp_path):
    """A copy of the project with one more migration. Call it with the operation; run manage.py in its path."""
    copy = tmp_path / "webapp"
    subprocess.run(["cp", "-r", "--", str(servers.WEBAPP), str(copy)], check=True)

    def make(operation):
        (copy / "notes/migrations/0005_more.py").write_text(BROKEN.format(operation=operation))

        def run(env, *arguments):
            return subprocess.run(
                [sys.executable, "manage.py", "migrate_locked", *arguments],
                cwd=copy,
                env=servers.clean_env(env),
                capture_output=True,
                text=True,
                timeout=60,
            )

        return run

    return make


def test_migrates_and_says_so_in_one_line(postgres, empty):
    env = postgres.owner_env(empty)
    first = migrate(env, "-v0")
    assert first.returncode == 0
    assert first.stdout.startswith("32 migrations applied: admin.0001_initial, ")
    assert "and 27 more in " in first.stdout
    assert first.stdout.count("\n") == 1
    second = migrate(env, "-v0")
    assert (second.returncode, second.stdout) == (0, "no migrations to apply\n")
    back = migrate(env, "-v0", "notes", "0003")
    assert back.stdout.startswith("1 migration reversed: notes.0004_created_at_index in ")
    forth = migrate(env, "-v0")
    assert forth.stdout.startswith("1 migration applied: notes.0004_created_at_index in ")


def test_one_of_many_runners_migrates(postgres, empty):
    env = postgres.owner_env(empty)
    runners = [
        subprocess.Popen(
            [sys.executable, "manage.py", "migrate_locked", "-v0"],
            cwd=servers.WEBAPP,
            env=servers.clean_env(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(4)
    ]
    outputs = [runner.communicate(timeout=60)[0] for runner in runners]
    assert [runner.returncode for runner in runners] == [0] * 4, outputs
    assert sum("32 migrations applied" in output for output in outputs) == 1, outputs
    assert sum(output.endswith("no migrations to apply\n") for output in outputs) == 3, outputs


@pytest.mark.slow
def test_does_not_wait_for_another_runner_for_ever(postgres, migrated):
    with contextlib.closing(postgres.connect(migrated)) as other:
        other.cursor().execute(f"SELECT pg_advisory_lock({LOCK})")
        done = migrate(postgres.owner_env(migrated), "--runner-wait=1")
    assert done.returncode == 1
    assert "Another runner is migrating; waiting up to 1 s." in done.stdout
    assert "Another runner has been migrating for more than 1 s" in done.stderr
    assert "(user boss, pid " in done.stderr


ADD_COLUMN = 'migrations.RunSQL("ALTER TABLE notes_note ADD COLUMN more text")'


@pytest.mark.slow
def test_table_lock_that_is_given_back(postgres, migrated, one_more):
    """A long transaction holds the table; the site's own queries do not queue up behind the migration for long."""
    run = one_more(ADD_COLUMN)
    with contextlib.closing(postgres.connect(migrated)) as other, ThreadPoolExecutor() as pool:
        other.autocommit = False
        other.cursor().execute("SELECT * FROM notes_note")
        future = pool.submit(run, postgres.owner_env(migrated), "--lock-timeout=1")
        end, waited = time.monotonic() + 3, 0.0
        while time.monotonic() < end:
            start = time.monotonic()
            postgres.sql("SELECT count(*) FROM notes_note", migrated, "app", servers.PASSWORD)
            waited = max(waited, time.monotonic() - start)
        assert 0.5 < waited < 1.5, "a reader queued behind the migration, but not for longer than its lock_timeout"
        other.rollback()
        done = future.result()
    assert done.returncode == 0, done.stderr
    assert "A table's lock was not to be had. Locks are held by unnamed (user boss, pid " in done.stdout
    assert "1 migration applied: notes.0005_more in " in done.stdout


@pytest.mark.slow
def test_table_lock_that_is_not_given_back(postgres, migrated, one_more):
    run = one_more(ADD_COLUMN)
    with contextlib.closing(postgres.connect(migrated)) as other:
        other.autocommit = False
        other.cursor().execute("SELECT * FROM notes_note")
        done = run(postgres.owner_env(migrated), "--lock-timeout=1", "--lock-attempts=2")
    assert done.returncode == 1
    assert "A table's lock was not to be had in 2 attempts" in done.stderr
    assert "canceling statement due to lock timeout" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_index_that_a_lock_left_half_made(postgres, migrated, one_more):
    """CREATE INDEX CONCURRENTLY that ran into the timeout leaves an invalid index; the next attempt still works."""
    run = one_more(
        'migrations.RunSQL("CREATE INDEX CONCURRENTLY more_index ON notes_note (length)")]\n    atomic = False#'
    )
    with contextlib.closing(postgres.connect(migrated)) as other, ThreadPoolExecutor() as pool:
        other.autocommit = False
        other.cursor().execute("INSERT INTO notes_note (text) VALUES ('open')")
        future = pool.submit(run, postgres.owner_env(migrated), "--lock-timeout=1")
        time.sleep(4)
        other.rollback()
        done = future.result()
    assert done.returncode == 0, done.stderr + done.stdout
    assert "A table's lock was not to be had." in done.stdout
    assert postgres.sql("SELECT count(*) FROM pg_index WHERE NOT indisvalid", migrated) == [(0,)]


def test_failing_migration_tells_the_whole_cause(postgres, migrated, one_more):
    done = one_more('migrations.RunSQL("ALTER TABLE nowhere ADD COLUMN more text")')(postgres.owner_env(migrated))
    assert done.returncode != 0
    assert "Applying notes.0005_more..." in done.stdout
    assert 'relation "nowhere" does not exist' in done.stderr.strip().splitlines()[-1]
    assert "pl4nted" not in done.stdout + done.stderr


def test_wrong_password_is_final(postgres, migrated):
    start = time.monotonic()
    done = migrate(postgres.owner_env(migrated) | {"POSTGRES_PASSWORD": "wrong-pl4nted"})
    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: The database refuses the password of user owner.")
    assert "pl4nted" not in done.stdout + done.stderr
    assert time.monotonic() - start < 5


@pytest.mark.slow
def test_waits_for_a_database_that_is_starting(postgres, migrated):
    env = postgres.owner_env(migrated)
    done = migrate(env | {"POSTGRES_PORT": str(servers.free_port())}, "--database-wait=1")
    assert done.returncode == 1
    assert done.stdout.endswith("Waiting up to 1 s.\n")
    assert done.stderr.startswith("CommandError: Nothing listens at 127.0.0.1:")


def test_bad_bound():
    env = {
        "POSTGRES_USER": "a",
        "POSTGRES_PASSWORD": "b",
        "POSTGRES_HOST": "c",
        "DJANGO_SECRET_KEY": servers.SECRET_KEY,
    }
    done = migrate(env | {"MIGRATE_LOCK_TIMEOUT": "soon"})
    assert done.returncode == 1
    assert done.stderr == "MIGRATE_LOCK_TIMEOUT is malformed: it must be a whole number from 1 to 86400.\n"


@pytest.mark.slow
def test_check_and_plan_need_no_lock(postgres, migrated, empty):
    assert migrate(postgres.owner_env(empty), "--check").returncode == 1
    with contextlib.closing(postgres.connect(migrated)) as other:
        other.cursor().execute(f"SELECT pg_advisory_lock({LOCK})")
        assert migrate(postgres.owner_env(migrated), "--check").returncode == 0
        assert "No planned migration" in migrate(postgres.owner_env(migrated), "--plan").stdout


@pytest.mark.slow
def test_check_waits_for_another_runner(postgres, empty):
    """As pods of a new release do before they start."""
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(migrate, postgres.app_env(empty), "--check", "--check-wait=20")
        time.sleep(2)
        assert not waiting.done()
        assert migrate(postgres.owner_env(empty), "-v0").returncode == 0
        assert waiting.result().returncode == 0


def test_old_code_passes_the_check_on_a_newer_schema(postgres, migrated):
    postgres.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('notes', '0099_future', now())", migrated)
    assert migrate(postgres.app_env(migrated), "--check").returncode == 0


def test_check_needs_no_more_than_the_app_role(postgres, migrated):
    assert migrate(postgres.app_env(migrated), "--check").returncode == 0


JUDGE = (servers.WEBAPP.parent / "roles/django/files/judge_migrations.py").read_text()
OPERATIONS = {
    "nullable": ('migrations.AddField("note", "a", models.IntegerField(null=True))', True),
    "db_default": ('migrations.AddField("note", "b", models.IntegerField(db_default=0))', True),
    "table": ('migrations.CreateModel("Other", [("id", models.BigAutoField(primary_key=True))])', True),
    "words": ('migrations.AlterField("note", "text", models.CharField(max_length=200, verbose_name="x"))', True),
    "index": ('migrations.AddIndex("note", models.Index(fields=["length"], name="x"))', True),
    "apart": ('migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("note", "a")])', True),
    "required": ('migrations.AddField("note", "c", models.IntegerField(default=0))', False),
    "shorter": ('migrations.AlterField("note", "text", models.CharField(max_length=100))', False),
    "removed": ('migrations.RemoveField("note", "length")', False),
    "rule": ('migrations.AlterUniqueTogether("note", {("text", "created_at")})', False),
    "sql": ('migrations.RunSQL("select 1")', False),
    "vouched": ('migrations.RunSQL("select 1")]; safe_for_older_code = True; more = [', True),
    "warned": ('migrations.AlterModelOptions("note", {})]; safe_for_older_code = False; more = [', False),
}


def test_what_older_code_bears(postgres, migrated, tmp_path):
    """What playbooks/rollback.yml asks the images: which migrations one lacks, and what those do."""
    copy = tmp_path / "webapp"
    subprocess.run(["cp", "-r", "--", str(servers.WEBAPP), str(copy)], check=True)
    before = "0004_created_at_index"
    for number, (name, (operation, _)) in enumerate(OPERATIONS.items(), 5):
        text = BROKEN.format(operation=operation).replace("0004_created_at_index", before)
        before = f"{number:04}_{name}"
        (copy / f"notes/migrations/{before}.py").write_text(
            text.replace("import migrations", "import migrations, models")
        )
    names = [f"notes.{number:04}_{name}" for number, name in enumerate(OPERATIONS, 5)]

    def ask(project, unknown):
        script = f"UNKNOWN = {unknown!r}\n{JUDGE}"
        command = [sys.executable, "manage.py", "shell", "-v0", "-c", script]
        env = servers.clean_env(postgres.app_env(migrated))
        done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    assert ask(copy, None) == {"unknown": [], "pending": names}
    postgres.sql(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('notes', '0005_nullable', now())", migrated
    )
    assert ask(servers.WEBAPP, None) == {"unknown": ["notes.0005_nullable"], "pending": []}
    judged = ask(copy, [*names, "gone.0001_initial"])
    unsafe = [name for name, (_, safe) in zip(names, OPERATIONS.values(), strict=True) if not safe]
    assert judged["unsafe"] == [*unsafe, "gone.0001_initial"]
    assert judged["lines"][0] == "  notes.0005_nullable: safe for older code"


def test_models_and_migrations_agree(database):
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


LINT = """
import django, sys
django.setup()
from django_migration_linter import MigrationLinter
linter = MigrationLinter(".", include_apps=["notes"])
linter.lint_all_migrations()
sys.exit(linter.has_errors)
"""


def lint(project, env):
    env = servers.clean_env(env | {"DJANGO_SETTINGS_MODULE": "kubernetes_django.settings"})
    return subprocess.run([sys.executable, "-c", LINT], cwd=project, env=env, capture_output=True, text=True)


def test_migrations_pass_the_linter(postgres, migrated, one_more, tmp_path):
    env = postgres.app_env(migrated)
    done = lint(servers.WEBAPP, env)
    assert done.returncode == 0, done.stdout
    assert "(notes, 0004_created_at_index)... OK" in done.stdout
    one_more('migrations.RemoveField("note", "text")')
    done = lint(tmp_path / "webapp", env)
    assert (done.returncode, "DROPPING columns" in done.stdout) == (1, True), "the linter notices"


def test_data_migration_fills_old_rows(postgres, empty):
    env = postgres.owner_env(empty)
    migrate(env, "-v0", "notes", "0002")
    postgres.sql("INSERT INTO notes_note (text) VALUES ('four'), ('')", empty, "app", servers.PASSWORD)
    migrate(env, "-v0", "notes")
    rows = postgres.sql("SELECT text, length FROM notes_note ORDER BY id", empty)
    assert rows == [("four", 4), ("", 0)]


def test_comparison_agrees_with_django(database):
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    assert plan == []
    code = migrations.known()
    assert len(code.order) == len(executor.loader.graph.nodes)
    now = time.time()
    everything = [(*key, now) for key in code.order]
    assert migrations.compare(code, everything).pending == []
    assert migrations.compare(code, everything[:-2]).pending == list(code.order[-2:])


def test_squashed_migrations():
    code = migrations.Known(
        order=(("a", "0001_squashed"), ("a", "0003")), replaces={("a", "0001_squashed"): (("a", "0001"), ("a", "0002"))}
    )
    both = migrations.compare(code, [("a", "0001", 1), ("a", "0002", 2)])
    assert (both.applied, both.pending, both.unknown) == (1, [("a", "0003")], [])
    half = migrations.compare(code, [("a", "0001", 1)])
    assert (half.applied, half.unknown) == (0, [])
