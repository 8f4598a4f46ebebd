"""Releases under constant requests, the short form: what happens several times a week."""

from __future__ import annotations

import datetime

from conftest import Image, clock, deploy, failed, requests, serves
from scenario import NO_TIME_OUT, changed, items, playbook


def test_additive_migration_and_rollback(additive: str, original: str) -> None:
    """A release with a migration, nothing to do after it, and back: older code on a newer schema."""
    with requests("release with an additive migration"):
        assert changed(deploy(additive)) >= 1
        serves(additive)
        assert changed(deploy(additive)) == 0
    with requests("rollback on a newer schema"):
        run = playbook("playbooks/rollback.yml")
        assert run.returncode == 0, run.stdout
        assert "notes.0005_additive: safe for older code" in run.stdout
        serves(original)
        assert changed(playbook("playbooks/deploy.yml")) == 0
    listed = playbook("playbooks/releases.yml").stdout
    assert "1 migration applied: notes.0005_additive" in listed
    assert "live, 2 of 2 pods ready" in listed


def test_failing_migration(image: Image, original: str) -> None:
    """The play ends as soon as the migration's pod does; the fix goes through."""
    wrong = image("failing", 'migrations.RunSQL("ALTER TABLE nowhere ADD COLUMN more text")')
    with requests("failing migration"), clock("failing migration"):
        run = deploy(wrong)
        ended = datetime.datetime.now(datetime.UTC)
        failed(
            run,
            "Traceback",
            "event Normal SuccessfulCreate",
            'Its last words: django.db.utils.ProgrammingError: relation "nowhere" does not exist',
            "the running site was not touched",
        )
    pods = items("pods", "-l", "app.kubernetes.io/component=migrations")
    ends = [pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] for pod in pods]
    after = (ended - max(map(datetime.datetime.fromisoformat, ends))).total_seconds()
    print(f"failing migration: the play ended {after:.0f} s after its pod")
    assert after < NO_TIME_OUT
    serves(original)
    fixed = image("failing", 'migrations.RunSQL("ALTER TABLE notes_note ADD COLUMN fixed text")')
    changed(deploy(fixed))
    serves(fixed)


def test_bad_image(original: str) -> None:
    with requests("bad image"), clock("bad image"):
        run = deploy("localhost/there-is-none:1", "-e", "django_migrations=manual")
    failed(run, "ImagePullBackOff", "localhost/there-is-none:1", "was put back to", "whose pods went on serving")
    serves(original)
    assert changed(playbook("playbooks/deploy.yml")) == 0
