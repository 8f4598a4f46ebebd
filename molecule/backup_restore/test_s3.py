"""Backups in the bucket of a real S3 server on this machine, reached from the Jobs' pods by the node's address."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator

import pytest
from scenario import NAME, ROOT, ask, changed, kubectl, playbook, sql
from test_backup_restore import made, shell

sys.path.insert(0, str(ROOT / "tests"))

import programs


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[programs.Bucket]:
    address = "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}"
    server = programs.Bucket(tmp_path_factory.mktemp("s3"), kubectl("get", "nodes", "-o", address))
    yield server
    server.stop()


def extra(bucket: programs.Bucket, **variables: str) -> tuple[str, str]:
    """The variables of a site with this bucket."""
    ours = {
        "postgres_backup_s3_endpoint": bucket.endpoint,
        "postgres_backup_s3_bucket": "bucket",
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
    copy = bucket.files / "bucket" / NAME / name
    assert {path.name for path in copy.iterdir()} == {"database.dump", "backup.json"}

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
