"""roles/django/files/locked.py: the advisory lock around another project's command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import servers

from status.management.commands.migrate_locked import LOCK

LOCKED = servers.WEBAPP.parent / "roles" / "django" / "files" / "locked.py"


@pytest.fixture
def locked(postgres, tmp_path):
    """Starts the script around a command."""
    (tmp_path / "password").write_text(servers.PASSWORD)
    login = {
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": os.environ["POSTGRES_PORT"],
        "POSTGRES_DB": "postgres",
        "POSTGRES_USER": os.environ["POSTGRES_USER"],
        "POSTGRES_PASSWORD_FILE": str(tmp_path / "password"),
        "PATH": os.environ["PATH"],
    }

    def start(*command: str, **environment: str) -> subprocess.Popen[str]:
        # As the Job gives it: the script's text, not its path.
        return subprocess.Popen(
            [sys.executable, "-c", LOCKED.read_text(), *command],
            env=login | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture
def holder(postgres):
    """A connection that holds the lock of migrate_locked."""
    connection = postgres.connect()
    connection.cursor().execute("SELECT pg_advisory_lock(%s)", [LOCK])
    yield connection
    connection.close()


def test_command_runs_with_bounded_lock_waits_and_its_exit_code_counts(locked):
    run = locked("sh", "-c", 'echo "$PGOPTIONS"; exit 7', MIGRATE_LOCK_TIMEOUT="9", PGOPTIONS="-c x.y=z")
    assert run.communicate(timeout=20)[0].strip() == "-c lock_timeout=9s -c x.y=z"
    assert run.returncode == 7


def test_lock_is_that_of_migrate_locked_and_the_wait_is_bounded(locked, holder):
    run = locked("echo", "ran", MIGRATE_RUNNER_WAIT="1")
    said = run.communicate(timeout=20)[0]
    assert "Another runner has been migrating for more than 1 s" in said
    assert "ran" not in said.split()
    assert run.returncode == 1


def test_waits_until_the_other_is_done(locked, holder):
    run = locked("echo", "ran")
    assert run.stdout.readline() == "Another runner is migrating; waiting up to 300 s.\n"
    holder.close()
    assert run.communicate(timeout=20)[0] == "ran\n"
    assert run.returncode == 0


def test_ends_with_its_command_when_told_to(locked):
    run = locked("sh", "-c", "echo started; exec sleep 60")
    assert run.stdout.readline() == "started\n"
    began = time.monotonic()
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=20)
    assert run.returncode == 143
    assert time.monotonic() - began < 10
