"""Backups in the bucket of a real S3 server on this machine, reached from the Jobs' pods by the node's address."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import programs
import pytest
from scenario import NAME, ask, changed, kubectl, playbook, site_id, sql, wait_for_base_backup
from test_backup_restore import made, note, now, shell, wait_until_archived


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[programs.Bucket]:
    address = "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}"
    server = programs.Bucket(tmp_path_factory.mktemp("s3"), kubectl("get", "nodes", "-o", address), tls=True)
    yield server
    server.stop()


def extra(bucket: programs.Bucket, **variables: str) -> tuple[str, str]:
    """The variables of a site with this bucket."""
    ours = {
        "postgres_backup_s3_endpoint": bucket.endpoint,
        "postgres_backup_s3_bucket": "bucket",
        "postgres_backup_s3_ca": bucket.certificate.strip(),
        "secrets_backup_s3_access_key": "key",
        "secrets_backup_s3_secret_key": "the secret",
    }
    return ("-e", json.dumps(ours | variables))


def test_backup_outlives_its_volume(bucket: programs.Bucket) -> None:
    # After a restore a deploy looks at the migrations again.
    assert changed(playbook("playbooks/deploy.yml", *extra(bucket))) > 0
    assert ask("/api/notes", {"text": "into the bucket"})[0] == 201
    run = playbook("playbooks/backup.yml", *extra(bucket))
    name = made(run)
    assert f"copied it to {bucket.endpoint}, bucket bucket" in run.stdout
    copy = bucket.files / "bucket" / NAME / site_id() / name
    assert {path.name for path in copy.iterdir()} == {"database.dump", "backup.json", "backup.json.sig"}

    shell(f"rm -r {name}")
    listed = playbook("playbooks/backups.yml", *extra(bucket)).stdout
    assert re.search(rf"(?m)^{name} .* bucket$", listed), listed
    sql("delete from notes_note")
    run = playbook("playbooks/restore.yml", *extra(bucket), "-e", f"backup={name}")
    assert changed(run) > 0
    assert f"fetching the backup {name} from {bucket.endpoint}" in run.stdout
    assert "into the bucket" in ask("/api/notes")[1]
    print(f"\n{name} was in the bucket alone, and was restored from there")


def test_bucket_that_refuses_is_told(bucket: programs.Bucket) -> None:
    """One sentence, and the backup on the volume is a good one."""
    run = playbook("playbooks/backup.yml", *extra(bucket, postgres_backup_s3_bucket="elsewhere"))
    assert run.returncode != 0
    assert f"postgres_backup_s3_endpoint: {bucket.endpoint}, bucket elsewhere refused:" in run.stdout
    assert "into the bucket" in ask("/api/notes")[1]


def test_archive_that_the_bucket_refuses_is_told(bucket: programs.Bucket) -> None:
    """Before the server is restarted for it."""
    before = sql("select pg_postmaster_start_time()")
    archive = {"postgres_archive": "true", "postgres_archive_storage": "s3", "postgres_backup_s3_bucket": "elsewhere"}
    run = playbook("playbooks/deploy.yml", *extra(bucket, **archive))
    assert run.returncode != 0
    said = (
        f"postgres_archive_storage: {bucket.endpoint}, bucket elsewhere refused: The specified bucket does not exist."
    )
    assert said in " ".join(run.stdout.split()), run.stdout
    assert sql("select pg_postmaster_start_time()") == before
    # What was wrong is mended there, not here: the same variables, and another answer.
    (bucket.files / "elsewhere").mkdir()
    assert changed(playbook("playbooks/deploy.yml", *extra(bucket, **archive))) > 0


def test_lost_volumes_come_back_from_the_bucket(bucket: programs.Bucket) -> None:
    """The data's and the backups': a new server, and the moment of the one before it."""
    archive = extra(bucket, postgres_archive="true", postgres_archive_storage="s3")
    assert changed(playbook("playbooks/deploy.yml", *archive)) > 0
    wait_for_base_backup(bucket.files / "bucket" / NAME / "archive")
    first, last = "lost: the first", "lost: the last"
    note(first)
    moment = now()
    note(last)
    wait_until_archived()
    end = now()
    lost = playbook("playbooks/reset.yml", *archive, "-e", "reset_data=true", "-e", "reset_backups=true")
    assert lost.returncode == 0, lost.stdout
    assert playbook("playbooks/deploy.yml", *archive).returncode == 0
    assert sql("select count(*) from notes_note") == "0"
    before = sql("select system_identifier from pg_control_system()")

    for time_, there in ((end, [first, last]), (moment, [first])):
        run = playbook("playbooks/restore.yml", *archive, "-e", f"to_time='{time_}'")
        assert run.returncode == 0, run.stdout + run.stderr
        assert [text for text in sql("select text from notes_note").splitlines() if text.startswith("lost: ")] == there
    assert sql("select system_identifier from pg_control_system()") != before
    listed = playbook("playbooks/backups.yml", *archive).stdout
    assert re.search(r"Any moment from 20\S+ \S+ UTC to 20\S+ \S+ UTC can be restored", listed), listed
    print("\ndata and backups were lost, and came back from the bucket to two moments")
