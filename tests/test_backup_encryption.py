"""Backups that age encrypts: what lies on the volume, who can read it, and what is said to who cannot."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.kubernetes_django.site.plugins.module_utils import age_keys
from conftest import Project
from programs import Bucket
from test_backup_scripts import (
    CHECKSUM,
    SERVERS,
    SITE,
    Server,
    bucket,
    days,
    last_line,
    needs_s3,
    open_way,
    running,
    server,
)
from test_bad_input import refused

# Fixtures, which pytest finds by their names.
__all__ = ["bucket", "running", "server"]
AGE = shutil.which("age")

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(os.geteuid() != 0 or not SERVERS or not AGE, reason="needs root, PostgreSQL and age"),
]


@dataclass
class Key:
    """A pair of age's keys; the folder is as the Secret is mounted."""

    public: str
    private: str
    folder: Path


@pytest.fixture
def keys(tmp_path: Path) -> list[Key]:
    """Three pairs."""
    made = []
    for name in ("ours", "older", "another"):
        told = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True)
        public, private = told.stderr.split()[-1], told.stdout.split()[-1]
        folder = tmp_path / name
        folder.mkdir()
        (folder / "identity").write_text(private)
        made.append(Key(public, private, folder))
    open_way(tmp_path)
    return made


def files_in_the_clear(server: Server) -> str:
    """Those that hold a dump that anybody can read."""
    places = [str(server.backups), str(server.folder / "tmp")]
    return subprocess.run(["grep", "-rlD", "skip", "PGDMP", *places], capture_output=True, text=True).stdout


def test_dump_is_never_in_the_clear(server: Server, keys: list[Key]) -> None:
    """Not while it is made either: the program that encrypts finds none before, and none when it is done."""
    look = f"grep -rlD skip PGDMP {server.backups} {server.folder}/tmp >> {server.folder}/found"
    watcher = server.folder / "bin" / "age"
    watcher.write_text(f'#!/bin/bash\n{look}\n{AGE} "$@"\ncode=$?\n{look}\nexit $code\n')
    watcher.chmod(0o755)
    try:
        name = server.backup_to({"RECIPIENTS": f"{keys[0].public},{keys[1].public}"})
    finally:
        watcher.unlink()
    assert (server.folder / "found").read_text() == files_in_the_clear(server) == ""
    assert {path.name for path in (server.backups / name).iterdir()} == {
        "backup.json",
        "backup.json.sig",
        "database.dump.age",
    }
    dump = server.backups / name / "database.dump.age"
    assert dump.read_bytes().startswith(b"age-encryption.org/v1\n")
    assert "not appear to be a valid archive" in server.program("pg_restore", "--list", str(dump)).stderr
    told = json.loads((server.backups / name / "backup.json").read_text())
    assert told["recipients"] == [keys[0].public, keys[1].public]
    assert told["size_bytes"] == dump.stat().st_size > 100_000
    assert told["sha256"] == hashlib.sha256(dump.read_bytes()).hexdigest()
    # Made by the same programs, one that is not encrypted is found.
    server.backup()
    assert files_in_the_clear(server) != ""


def test_restore_with_the_private_key(server: Server, keys: list[Key]) -> None:
    """And what is there before is encrypted as well."""
    variables = {"RECIPIENTS": keys[0].public, "IDENTITY": str(keys[0].folder)}
    assert server.sql("create extension pg_stat_statements; create extension pg_trgm") == ""
    before = server.sql(CHECKSUM)
    name = server.backup_to(variables)
    run = server.script("drill", **variables)
    assert f"drill passed: the backup {name} was restored" in run.stdout, run.stderr
    server.sql("delete from note where id % 2 = 0; drop extension pg_stat_statements")
    run = server.script("restore", RESTORE="latest", EXTENSIONS="pg_stat_statements", **variables)
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(CHECKSUM) == before
    assert server.sql("select count(*) from pg_extension") == "3"
    (undo,) = set(server.names()) - {name}
    assert (server.backups / undo / "database.dump.age").exists()
    assert files_in_the_clear(server) == ""


def test_restore_by_programs_that_are_newer_than_the_server(server: Server, keys: list[Key]) -> None:
    """They then write SQL for psql."""
    variables = {"RECIPIENTS": keys[0].public, "IDENTITY": str(keys[0].folder)}
    before = server.sql(CHECKSUM)
    name = server.backup_to(variables)
    server.sql("delete from note")
    newer, used = server.folder / "bin" / "pg_restore", server.folder / "used"
    newer.write_text(
        "#!/bin/bash\n[[ $1 != --version ]] || exec echo 'pg_restore (PostgreSQL) 99.1'\n"
        f'echo "$*" >> {used}\nexec {SERVERS[-1]}/pg_restore "$@"\n'
    )
    newer.chmod(0o755)
    try:
        run = server.script("restore", RESTORE=name, **variables)
    finally:
        newer.unlink()
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(CHECKSUM) == before
    assert "--exit-on-error" in used.read_text()
    assert "--dbname" not in used.read_text()


@pytest.mark.parametrize("identity", ["none", "another", "broken"])
def test_13_without_the_private_key_it_is_named_and_nothing_is_touched(
    server: Server, keys: list[Key], identity: str
) -> None:
    before = server.sql(CHECKSUM)
    name = server.backup_to({"RECIPIENTS": f"{keys[0].public},{keys[1].public}"})
    folder = keys[2].folder
    cause = "opens nothing of it (no identity matched any of the recipients)"
    match identity:
        case "none":
            (folder / "identity").unlink()
            cause = "is not set"
        case "broken":
            (folder / "identity").write_text(keys[0].private[:-1])
            cause = "opens nothing of it (reading "
    for script in ("restore", "drill"):
        said = last_line(server.script(script, RESTORE=name, IDENTITY=str(folder)))
        assert said.startswith(f"vault_backup_identity: {cause}")
        assert said.endswith(
            f", and the backup {name} is encrypted for {keys[0].public}, {keys[1].public}. Add the private key of one "
            "of these to the vault, or say it with -e. The data is as it was."
        )
    assert keys[0].private[:-1] not in said
    assert server.names() == [name]
    assert server.sql(CHECKSUM) == before


def test_key_of_before_opens_older_backups(server: Server, keys: list[Key]) -> None:
    new, old, _ = keys
    before = server.sql(CHECKSUM)
    name = server.backup_to({"RECIPIENTS": old.public})
    (new.folder / "identity").write_text(f"# new\n{new.private}\n\n# old\n{old.private}\n")
    server.sql("delete from note")
    run = server.script("restore", RESTORE=name, RECIPIENTS=new.public, IDENTITY=str(new.folder))
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(CHECKSUM) == before


def test_backup_from_before_it_was_encrypted(server: Server, keys: list[Key]) -> None:
    before = server.sql(CHECKSUM)
    name = server.backup()
    server.sql("delete from note")
    run = server.script("restore", RESTORE=name, RECIPIENTS=keys[0].public)
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(CHECKSUM) == before


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ('pg_dump "$@" | head -c -200', "the dump failed: the dump is damaged or cut off: pg_restore: error: "),
        ('pg_dump --schema-only "$@"', "the dump failed: the dump holds no table: the database"),
        ('pg_dump "$@"; echo "no, it is" >&2; exit 1', "the dump failed: no, it is"),
    ],
)
def test_dump_is_checked_on_its_way(server: Server, keys: list[Key], program: str, message: str) -> None:
    """Where the private key is elsewhere nobody can do so later."""
    good = server.backup_to({"RECIPIENTS": keys[0].public})
    broken = server.folder / "bin" / "pg_dump"
    program = program.replace("pg_dump", f"{SERVERS[-1]}/pg_dump")
    broken.write_text(f'#!/bin/bash\n[[ $1 != --version ]] || exec {SERVERS[-1]}/pg_dump "$1"\n{program}\n')
    broken.chmod(0o755)
    try:
        assert last_line(server.script("backup", RECIPIENTS=keys[0].public)).startswith(message)
    finally:
        broken.unlink()
    assert server.names() == [good]
    assert not list(server.backups.glob(".*.part"))


def test_no_dump_in_the_clear_where_it_cannot_be_encrypted(server: Server, keys: list[Key], tmp_path: Path) -> None:
    """A key that is none, and a volume that is full."""
    said = last_line(server.script("backup", RECIPIENTS=keys[0].public[:-1]))
    assert said.startswith("the dump failed: age: error: malformed recipient ")
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k,mode=0777", "full", full], check=True)
    try:
        said = last_line(server.script("backup", RECIPIENTS=keys[0].public, BACKUPS=str(full)))
        assert "postgres_backup_size: the volume of the backups is full" in said
        assert [path.name for path in full.iterdir()] == [".lock"]
    finally:
        subprocess.run(["umount", full], check=True)
    assert server.names() == []


def test_image_without_age_is_told(server: Server, keys: list[Key]) -> None:
    """As the official one; nothing is made in the clear instead."""
    name = server.backup_to({"RECIPIENTS": keys[0].public})
    path = server.folder / "few-without-age"
    path.mkdir()
    for place in (SERVERS[-1], Path("/usr/bin"), Path("/bin")):
        for program in place.iterdir():
            if program.name != "age" and not (path / program.name).exists():
                (path / program.name).symlink_to(program)
    for script in ("backup", "restore", "drill"):
        variables = server.login(script) | {"RECIPIENTS": keys[0].public, "IDENTITY": str(keys[0].folder)}
        command = ["env", f"PATH={path}", "bash", str(server.folder / "scripts" / f"{script}.sh")]
        said = last_line(server.program(*command, RESTORE=name, **variables))
        assert said.startswith("postgres_backup_recipients: this image has no age, which encrypts backups.")
    assert server.names() == [name]


def test_retention_counts_both_kinds(server: Server, keys: list[Key]) -> None:
    """By their sizes too: an encrypted one that is far larger than the rest stays."""
    variables = {"RECIPIENTS": keys[0].public}
    large, small, clear = days("manual", 200, 201, 202)
    made = server.backups / server.backup()
    made.rename(server.backups / clear)
    made = server.backups / server.backup_to(variables | {"KEEP": "9"})
    for name in (large, small):
        shutil.copytree(made, server.backups / name)
    with (server.backups / large / "database.dump.age").open("ab") as dump:
        dump.write(bytes(3 * dump.tell()))
    subprocess.run(["chown", "-R", "postgres:postgres", server.backups], check=True)
    made = [made.name, server.backup_to({"KEEP": "9"})]
    made.append(server.backup_to(variables | {"KEEP": "2", "KEEP_DAYS": "30", "KEEP_MINIMUM": "1"}))
    assert server.names() == [large, *made[1:]]


@pytest.mark.long
@needs_s3
def test_bucket_has_no_dump_in_the_clear(server: Server, bucket: Bucket, keys: list[Key]) -> None:
    """And it is fetched, and kept by its size, as any other."""
    variables = bucket.variables | {"RECIPIENTS": keys[0].public, "IDENTITY": str(keys[0].folder)}
    before = server.sql(CHECKSUM)
    name = server.backup_to(variables)
    place = bucket.files / "bucket" / "site" / SITE
    assert {path.name for path in (place / name).iterdir()} == {"backup.json", "backup.json.sig", "database.dump.age"}
    assert not [path for path in bucket.files.rglob("*") if path.is_file() and path.read_bytes().startswith(b"PGDMP")]
    large, small = days("manual", 200, 201)
    for other in (large, small):
        shutil.copytree(place / name, place / other)
    with (place / large / "database.dump.age").open("ab") as dump:
        dump.write(bytes(3 * dump.tell()))
    shutil.rmtree(server.backups / name)
    server.sql("delete from note where id > 10000")
    run = server.script("restore", RESTORE=name, **variables)
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.sql(CHECKSUM) == before
    last = server.backup_to(variables | {"KEEP": "2", "KEEP_DAYS": "30", "KEEP_MINIMUM": "1"})
    kept = {path.name for path in place.iterdir() if not path.name.endswith("-before-restore")}
    assert kept == {large, name, last}


def test_public_keys_are_those_that_age_takes(keys: list[Key]) -> None:
    for key in keys:
        assert age_keys.is_public_key(key.public)
        wrong = key.public[:-1] + ("q" if key.public[-1] != "q" else "p")
        assert not age_keys.is_public_key(wrong)
        run = subprocess.run(["age", "-r", wrong, "/dev/null"], capture_output=True, text=True)
        assert "malformed recipient" in run.stderr


@pytest.mark.parametrize(
    ("private", "fault"),
    [
        ([], "is not set."),
        ([1], "fits none of postgres_backup_recipients."),
        ([1, 0], None),
    ],
)
def test_drills_need_a_key_that_fits(
    shared_project: Project, keys: list[Key], private: list[int], fault: str | None
) -> None:
    """Preflight knows which public key belongs to a private one; one of several is enough, on either side."""
    values = {
        "postgres_backup_recipients": [keys[0].public, keys[2].public],
        "postgres_drill_schedule": "@weekly",
    }
    if private:
        values["vault_backup_identity"] = "\n".join(["# of the site", *(keys[each].private for each in private)])
    seen = refused(shared_project, "-e", json.dumps(values))
    refusal = "postgres_drill_schedule: a drill reads the latest backup, and vault_backup_identity"
    assert f"{refusal} {fault}" in seen if fault else refusal not in seen
    assert "AGE-SECRET-KEY-1" not in seen
    # An older key alone may be what a restore needs.
    seen = refused(shared_project, "-e", json.dumps(values | {"postgres_drill_schedule": ""}))
    assert "vault_backup_identity" not in seen
