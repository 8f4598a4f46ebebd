"""Releases under constant requests, the long form: every way in which they go wrong, and each stage ended by a kill."""

from __future__ import annotations

import contextlib
import json
import string
import subprocess
import threading
import time

import pytest
from conftest import Image, clock, deploy, failed, requests, serves
from scenario import begin, changed, items, kubectl, playbook, sql, web_pods

pytestmark = pytest.mark.long

NO_MIGRATIONS = ("-e", "django_migrations=manual")


def hold_the_table() -> None:
    """A transaction that has read the table and does not end: until it is ended."""
    with contextlib.suppress(subprocess.CalledProcessError):
        sql("begin; lock table notes_note in access share mode; select pg_sleep(900)")


def test_migration_that_waits_for_a_lock(image: Image, original: str) -> None:
    """A long transaction holds the table: the migration gives way again and again, and then gives up."""
    wanted = image("locked", 'migrations.AddField("note", "locked", models.IntegerField(db_default=0))')
    holder = threading.Thread(target=hold_the_table)
    with requests("migration that waits for a lock"):
        holder.start()
        with clock("migration that waits for a lock"):
            run = deploy(wanted)
        sql("select pg_terminate_backend(pid) from pg_stat_activity where query like 'select pg_sleep(900)%'")
        holder.join()
    failed(run, "A table's lock was not to be had in 5 attempts", "Locks are held by", "site was not touched")
    serves(original)
    assert changed(deploy(wanted)) >= 1
    serves(wanted)


def test_image_that_crashes(image: Image, original: str) -> None:
    wrong = image("crash", lines='CMD ["python", "-c", "raise SystemExit(\\"no such setting: FROBNICATE\\")"]\n')
    with requests("image that crashes"), clock("image that crashes"):
        run = deploy(wrong)
    failed(run, "Its last words: no such setting: FROBNICATE", "was put back to", "whose pods went on serving")
    serves(original)
    assert changed(playbook("playbooks/deploy.yml")) == 0


def test_image_that_never_gets_ready(original: str) -> None:
    """It lives and answers, but its readiness never passes."""
    never = json.dumps({"django_environment": {"POSTGRES_PORT": "5433", "DJANGO_NOTES_WRITABLE": "true"}})
    with requests("image that never gets ready"), clock("image that never gets ready"):
        run = playbook("playbooks/deploy.yml", *NO_MIGRATIONS, "-e", never)
    failed(run, "runs, but is not ready", "Readiness probe failed", "was put back to")
    serves(original)
    changed(playbook("playbooks/deploy.yml"))
    assert changed(playbook("playbooks/deploy.yml")) == 0


def test_pod_that_finds_no_node(original: str) -> None:
    large = json.dumps({"django_resources": {"requests": {"cpu": "64"}, "limits": {"cpu": "64", "memory": "384Mi"}}})
    many = ["-e", "django_connections=8"]
    with requests("no node has the cores"), clock("no node has the cores"):
        run = playbook("playbooks/deploy.yml", *NO_MIGRATIONS, "-e", large, *many)
    failed(run, "finds no node", "Insufficient cpu", "was put back to")
    serves(original)
    changed(playbook("playbooks/deploy.yml"))


def test_rollback_that_older_code_may_not_bear(image: Image, original: str) -> None:
    """A column without a default in the database: refused, then insisted on; and forward again."""
    strict = image("strict", 'migrations.AddField("note", "strict", models.IntegerField(default=0))')
    changed(deploy(strict))
    with requests("rollback that is refused, then forced"):
        with clock("rollback that is refused"):
            run = playbook("playbooks/rollback.yml")
        failed(run, "Nothing was touched", "may not work with", "notes.0005_strict", "rollback_force=true")
        assert "notes.0005_strict: Add field strict to note: older code gives it no value" in run.stdout
        serves(strict)
        run = playbook("playbooks/rollback.yml", "-e", "rollback_force=true")
        assert run.returncode == 0, run.stdout
        serves(original)
        # The tests' releases are no line but a bush: what others of them migrated, neither knows.
        named = ["-e", f"release={strict.rpartition(':')[2]}", "-e", "rollback_force=true"]
        forward = playbook("playbooks/rollback.yml", *named)
        assert forward.returncode == 0, forward.stdout
        serves(strict)
    back = playbook("playbooks/migrate.yml", "-e", f"django_image={strict}", "-e", "django_migrate_target=notes.0004")
    assert back.returncode == 0, back.stdout
    assert "Planned operations" in back.stdout
    assert "1 migration reversed: notes.0005_strict" in back.stdout
    # What was reversed is run again by the next release of it: no Job says any more that it was done.
    changed(playbook("playbooks/deploy.yml"))
    changed(deploy(strict))
    assert sql("select count(*) from django_migrations where name = '0005_strict'") == "1"
    changed(playbook("playbooks/deploy.yml"))


def test_pods_wait_for_the_schema(image: Image, original: str) -> None:
    """A pod that starts before its migrations, as by an autoscaler's hand, gets no requests until they are there."""
    ahead = image("ahead", 'migrations.AddField("note", "ahead", models.IntegerField(db_default=0))')
    with requests("pods ahead of the schema"):
        kubectl("set", "image", "deployment/kubernetes-django", f"django={ahead}")
        time.sleep(15)
        waiting = [pod for pod in web_pods() if pod["spec"]["containers"][0]["image"] == ahead]
        assert len(waiting) == 1
        assert waiting[0]["status"]["containerStatuses"][0]["ready"] is False
        log = kubectl("logs", waiting[0]["metadata"]["name"])
        assert "not ready: the database lacks notes.0005_ahead" in log
        assert playbook("playbooks/migrate.yml", "-e", f"django_image={ahead}").returncode == 0
        serves(ahead)
    changed(playbook("playbooks/deploy.yml"))


def release(reference: str) -> subprocess.Popen[str]:
    """Start a release and do not wait for it."""
    return begin("playbooks/deploy.yml", "-e", f"django_image={reference}")


@pytest.mark.parametrize(
    "moment",
    ["PLAY [Preflight]", "PLAY [Storage]", "PLAY [Postgres]", "differs: Job/", "differs: Deployment/"],
)
def test_killed_in_a_stage_and_run_again(image: Image, moment: str) -> None:
    # Another image each time, so that there is something to do in each stage.
    wanted = image("killed", 'migrations.RunSQL("select pg_sleep(3)")', {"moment.txt": moment})
    with requests(f"killed at {moment}"):
        with release(wanted) as run:
            for line in run.stdout:
                if moment in line:
                    time.sleep(1.5)
                    run.kill()
        assert run.returncode != 0
        changed(deploy(wanted))
        assert changed(deploy(wanted)) == 0
        serves(wanted)


def test_two_releases_at_once(additive: str, original: str) -> None:
    """One goes through, the other one says who has the site and touches nothing."""
    with requests("two releases at once"):
        runs = [release(additive), release(additive)]
        outputs = [run.communicate()[0] for run in runs]
        assert sorted(run.returncode != 0 for run in runs) == [False, True], outputs
        refused = next(output for run, output in zip(runs, outputs, strict=True) if run.returncode)
        assert "Another run" in refused
        assert "changed=0" in refused
        serves(additive)


def test_five_replicas_migrate_at_startup(image: Image) -> None:
    """All five start at once and find a slow migration to do: one of them does it."""
    slow = image(
        "slow",
        'migrations.RunSQL("select pg_sleep(6)"), '
        'migrations.AddField("note", "slow", models.IntegerField(db_default=0))',
    )
    startup = ["-e", "django_migrations=startup", "-e", "django_replicas=5", "-e", "django_max_surge=5"]
    with requests("5 replicas in startup mode"):
        changed(deploy(slow, *startup))
        serves(slow)
    logs = [kubectl("logs", pod["metadata"]["name"], "--container=django") for pod in web_pods()]
    assert len(logs) == 5
    assert sum("1 migration applied: notes.0005_slow" in log for log in logs) == 1, logs
    assert sum("no migrations to apply" in log for log in logs) == 4, logs
    assert changed(deploy(slow, *startup)) == 0


def test_only_what_the_pods_see_rolls_them() -> None:
    """A setting of the playbook alone does not; one of the pods, and a Secret that they mount, do."""
    before = {pod["metadata"]["name"] for pod in web_pods()}
    changed(playbook("playbooks/deploy.yml", "-e", "site_log_lines=50", "-e", "django_migrations_ttl=3600"))
    assert {pod["metadata"]["name"] for pod in web_pods()} == before
    new = {"django_environment": {"DJANGO_NOTES_WRITABLE": "true", "FEATURE": "on"}}
    changed(playbook("playbooks/deploy.yml", "-e", json.dumps(new)))
    with_setting = {pod["metadata"]["name"] for pod in web_pods()}
    assert not with_setting & before
    key = f"secrets_django_secret_key={string.ascii_letters}"
    changed(playbook("playbooks/deploy.yml", "-e", json.dumps(new), "-e", key))
    assert not with_setting & {pod["metadata"]["name"] for pod in web_pods()}
    changed(playbook("playbooks/deploy.yml"))


def test_backup_before_migrations(image: Image) -> None:
    """Made where there is something to migrate, of the release that serves; and nowhere else."""
    wanted = image("backed_up", 'migrations.AddField("note", "backed_up", models.IntegerField(db_default=0))')
    before = json.dumps({"django_backup_before_migrate": True})
    serving = web_pods()[0]["spec"]["containers"][0]["image"]
    run = deploy(wanted, "-e", before)
    assert changed(run) >= 2
    assert run.stdout.index("Job/postgres-backup") < run.stdout.index("Job/django-migrations")
    backups = playbook("playbooks/backups.yml").stdout
    assert serving.rpartition(":")[2] in backups, backups
    assert changed(deploy(wanted, "-e", before)) == 0
    serves(wanted)


def test_migrations_are_known_after_their_job_is_gone() -> None:
    """As its time to live takes it away: nothing is run again."""
    kubectl("delete", "jobs", "-l", "app.kubernetes.io/component=migrations")
    assert changed(playbook("playbooks/deploy.yml")) == 0
    assert items("jobs", "-l", "app.kubernetes.io/component=migrations") == []


def test_one_stage_alone(additive: str) -> None:
    """--tags django releases, with preflight before it and nothing else."""
    run = deploy(additive, "--tags", "django")
    assert changed(run) >= 1
    assert "PLAY [Preflight]" in run.stdout
    assert "storage :" not in run.stdout
    serves(additive)
    assert changed(deploy(additive)) == 0


def test_check_mode_tells_and_touches_nothing(additive: str, original: str) -> None:
    before = {pod["metadata"]["name"] for pod in web_pods()}
    run = deploy("localhost/another:1", "--check", "--diff")
    assert run.returncode == 0, run.stdout
    assert "image: localhost/another:1" in run.stdout
    assert {pod["metadata"]["name"] for pod in web_pods()} == before
    elsewhere = ["site_name=molecule-empty", "site_namespace=molecule-empty", "django_node_port=30812"]
    elsewhere += ["storage_volume=molecule-empty-pv", "storage_path=/data/molecule-empty-pv"]
    run = playbook("playbooks/deploy.yml", "--check", "--diff", "-e", " ".join(elsewhere))
    assert run.returncode == 0, run.stdout
    assert "would be created: " in run.stdout
    assert "molecule-empty" not in kubectl("get", "namespaces", "-o", "name")
