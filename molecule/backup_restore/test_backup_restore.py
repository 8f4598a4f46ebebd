"""What the backups promise, on a real cluster with a million rows. The figures are printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from scenario import (
    NAMESPACE,
    URL,
    ask,
    begin,
    changed,
    items,
    kill,
    kubectl,
    playbook,
    pods_as_they_are,
    sql,
    wait_for,
    wait_for_base_backup,
)
from traffic import Reader

ROWS = 1_000_000
TABLES = "select count(*), md5(string_agg(md5(t::text), '' order by id)) from {} t"


def shell(script: str) -> str:
    """Run a shell script on the backups' volume, in a pod of its own."""
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 999, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "shell",
                "image": json.loads(kubectl("get", "statefulset/postgres", "-o", "json"))["spec"]["template"]["spec"][
                    "containers"
                ][0]["image"],
                "command": ["bash", "-euc", f"cd /backups\n{script}"],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "backups", "mountPath": "/backups"}],
            }
        ],
        "volumes": [{"name": "backups", "persistentVolumeClaim": {"claimName": "postgres-backups"}}],
    }
    overrides = json.dumps({"apiVersion": "v1", "spec": spec})
    image = spec["containers"][0]["image"]
    return kubectl("run", "shell", "--rm", "-i", "--quiet", f"--image={image}", f"--overrides={overrides}")


def serving() -> dict[str, int]:
    """The pods of the site and its database, without those of Jobs."""
    return {
        pod: restarts for pod, restarts in pods_as_they_are().items() if pod.startswith(("kubernetes", "postgres-0"))
    }


def checksums() -> dict[str, str]:
    """Table -> its rows' number and checksum."""
    return {table: sql(TABLES.format(table)) for table in ("big", "notes_note", "django_migrations")}


def made(run: subprocess.CompletedProcess[str]) -> str:
    """The name of the backup that a playbook made."""
    assert run.returncode == 0, run.stdout + run.stderr
    return re.search(r"made the backup (\S+):", run.stdout)[1]


@pytest.fixture(scope="module")
def rows() -> dict[str, str]:
    """A million rows, and the checksums of all that is there."""
    owner = "set role kubernetes_django_owner"
    sql(f"{owner}; create table big as select i as id, md5(i::text) as text from generate_series(1, {ROWS}) i")
    sql("alter table big add primary key (id)")
    ask("/api/notes", {"text": "written before the backup"})
    return checksums()


@pytest.fixture(scope="module")
def backup(rows: dict[str, str]) -> str:
    """The backup of these rows."""
    began = time.monotonic()
    run = playbook("playbooks/backup.yml")
    name = made(run)
    size = sql("select pg_database_size('kubernetes_django') / 1000000")
    print(f"\nbackup of {ROWS} rows, {size} MB: {time.monotonic() - began:.1f} s")
    print(re.search(r"made the backup.*", run.stdout)[0])
    return name


def test_backup_is_listed_and_on_the_page(backup: str) -> None:
    run = playbook("playbooks/backups.yml")
    assert changed(run) >= 1
    line = next(line for line in run.stdout.splitlines() if line.startswith(backup))
    image = items("deployments")[0]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert re.search(
        rf"{backup}  +[\d.]+ MB  +\d min  +{image.rpartition(':')[2]}  +\w+\.\d+\w+ +1\d\.\d+ +volume", line
    )
    report = json.loads(ask("/api/status")[1])
    assert report["backup"]["name"] == backup
    assert report["backup"]["size_bytes"] > 1_000_000
    status = playbook("playbooks/status.yml").stdout
    assert f"Last backup: {backup}" in status


def test_backup_drop_restore(rows: dict[str, str], backup: str) -> None:
    """The database dropped as a whole; counts and checksums are as before, and no pod was restarted."""
    pods = serving()
    sql("drop database kubernetes_django with (force)", "postgres")
    began = time.monotonic()
    run = playbook("playbooks/restore.yml", "-e", "backup=latest")
    assert run.returncode == 0, run.stdout + run.stderr
    print(f"\nrestore of {ROWS} rows into nothing: {time.monotonic() - began:.1f} s")
    assert checksums() == rows
    assert serving() == pods
    assert "written before the backup" in ask("/api/notes")[1]
    assert ask("/api/notes", {"text": "written after it"})[0] == 201


def test_restore_with_the_site_up(rows: dict[str, str], backup: str) -> None:
    """Who asks meanwhile is told 503, nobody gets an old or half of a new answer, and what was there is kept."""
    pods = serving()
    sql("delete from big where id % 2 = 0")
    began = time.monotonic()
    with Reader(URL, "/", rate=20) as reader:
        run = playbook("playbooks/restore.yml", "-e", f"backup={backup}")
    assert run.returncode == 0, run.stdout + run.stderr
    assert checksums() == rows
    assert serving() == pods
    print(f"\nrestore of {ROWS} rows, site up: {time.monotonic() - began:.1f} s; {reader.figures()}")
    assert {request.outcome for request in reader.failures} <= {503}
    assert reader.requests[-1].ok
    safety = made(run)
    assert safety.endswith("-before-restore")
    undone = playbook("playbooks/restore.yml", "-e", f"backup={safety}", "-e", "postgres_restore_keep_replaced=false")
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert sql("select count(*) from big") == str(ROWS // 2)
    assert sql("select count(*) from pg_database where datname like 'kubernetes_django_%'", "postgres") == "0"


def test_drill(backup: str) -> None:
    run = playbook("playbooks/restore_drill.yml")
    assert run.returncode == 0, run.stdout + run.stderr
    said = re.search(
        rf"drill passed: the backup {backup} was restored in (\d+) s, \d+ tables with (\d+) rows", run.stdout
    )
    assert int(said[2]) > ROWS
    print(f"\n{said[0]}")
    assert re.search(rf"Last drill: \d+ min ago, the backup {backup}", playbook("playbooks/status.yml").stdout)


def test_16_encrypted_backup_needs_its_key(backup: str, tmp_path: Path) -> None:
    """The key comes by a file, stays nowhere, and without it nothing is touched."""
    key = tmp_path / "backups.key"
    told = subprocess.run(["age-keygen", "--output", key], capture_output=True, text=True, check=True).stderr
    recipient = told.rpartition(" ")[2].strip()
    identity = tmp_path / "key.yml"
    identity.write_text(json.dumps({"vault_backup_identity": key.read_text().splitlines()[-1]}))
    name = made(playbook("playbooks/backup.yml", "-e", json.dumps({"postgres_backup_recipients": [recipient]})))
    assert shell(f"ls {name}").split() == ["backup.json", "backup.json.sig", "database.dump.age"]
    assert shell(f"head -c 21 {name}/database.dump.age") == "age-encryption.org/v1"
    before, pods = checksums(), serving()
    refused = playbook("playbooks/restore.yml", "-e", f"backup={name}")
    said = " ".join(refused.stdout.split())
    assert refused.returncode != 0
    assert f"vault_backup_identity: is not set, and the backup {name} is encrypted for {recipient}." in said, said
    assert checksums() == before
    sql("delete from big where id % 3 = 0")
    run = playbook("playbooks/restore.yml", "-e", f"backup={name}", "-e", f"@{identity}")
    assert run.returncode == 0, run.stdout + run.stderr
    assert checksums() == before
    assert serving() == pods
    assert "postgres-backup-encryption" not in kubectl("get", "secrets", "-o", "name")
    # It runs the migrations again.
    changed(playbook("playbooks/deploy.yml"))
    assert changed(playbook("playbooks/deploy.yml")) == 0


def test_wrong_backups_are_refused_in_a_sentence(backup: str) -> None:
    """Nothing is changed."""
    shell(f"""
        cp -a {backup} 20200101T000000Z-cut; truncate -s 100000 20200101T000000Z-cut/database.dump
        cp -a {backup} 20200101T000000Z-newer
        sed -i 's/"server_version": "[^"]*"/"server_version": "99.1"/' 20200101T000000Z-newer/backup.json
    """)
    for name, message in {
        "20200101T000000Z-cut": "backup: 20200101T000000Z-cut is not what it was: its checksum is",
        "20200101T000000Z-newer": "backup: 20200101T000000Z-newer was made by PostgreSQL 99, and the server is",
        "20200101T000000Z-none": "backup: there is no backup 20200101T000000Z-none. There are: ",
        "../../etc": 'backup: "../../etc" is no name of a backup.',
    }.items():
        run = playbook("playbooks/restore.yml", "-e", f"backup={name}", "-e", "postgres_backup_unsigned=true")
        assert run.returncode != 0
        assert message in run.stdout, run.stdout
    for name, message in {
        "20200101T000000Z-cut": f"backup: 20200101T000000Z-cut is the backup {backup} under another name.",
        "20200101T000000Z-newer": "backup: the signature of 20200101T000000Z-newer is neither this site's",
    }.items():
        run = playbook("playbooks/restore.yml", "-e", f"backup={name}")
        assert run.returncode != 0
        assert message in run.stdout, run.stdout
    shell("rm -r 20200101T000000Z-cut 20200101T000000Z-newer")
    assert sql("select count(*) from big") == str(ROWS // 2), "as the test before left it"
    assert ask("/")[0] == 200


def test_restore_that_was_killed_converges(rows: dict[str, str], backup: str) -> None:
    """Its pod killed in the middle: another one takes its place by itself, and ends what it began."""
    sql("delete from big where id > 10")

    def kill() -> None:
        for _ in range(600):
            for pod in items("pods", "-l", "app.kubernetes.io/component=backup"):
                name = pod["metadata"]["name"]
                if name.startswith("postgres-restore") and "restoring" in kubectl("logs", name):
                    kubectl("delete", "pod", name, "--grace-period=0", "--force")
                    return
            time.sleep(0.1)

    killer = threading.Thread(target=kill)
    killer.start()
    run = playbook("playbooks/restore.yml", "-e", f"backup={backup}")
    killer.join()
    assert run.returncode == 0, run.stdout + run.stderr
    assert checksums() == rows
    assert json.loads(ask("/api/status")[1])["status"] == "operational"


HUGE = {"requests": {"cpu": "1000", "memory": "64Mi"}, "limits": {"cpu": "1000", "memory": "512Mi"}}


def of_restores() -> set[str]:
    """Jobs of restores, and their pods; those that came to their end stay for a while."""
    return {item["metadata"]["name"] for item in items("jobs,pods") if "restore" in item["metadata"]["name"]}


def fails_for_good(*arguments: str) -> None:
    """A restore whose pod finds no node is reported as failed: it has not happened, and no Job is left to do it."""
    texts, before = sql("select text from notes_note order by id"), of_restores()
    run = playbook("playbooks/restore.yml", *arguments)
    assert run.returncode != 0, run.stdout
    assert "finds no node" in run.stdout, run.stdout
    said = " ".join(run.stdout.split())
    assert (
        "The Job is deleted: nothing of it happens later." in said
        or "Nothing was restored, and nothing will be" in said
    )
    assert of_restores() <= before
    assert sql("select text from notes_note order by id") == texts
    assert ask("/api/notes", {"text": "written after a restore that failed"})[0] == 201


def test_4_restore_that_is_reported_as_failed_never_happens(backup: str) -> None:
    fails_for_good("-e", f"backup={backup}", "-e", json.dumps({"postgres_backup_resources": HUGE}))


def test_schedule(backup: str) -> None:
    """A CronJob's backup; a second deploy changes nothing; without the schedule the CronJob goes."""
    schedule = ["-e", "postgres_backup_schedule='0 3 * * *'", "-e", "postgres_drill_schedule=@weekly"]
    # After a restore a deploy looks at the migrations again.
    changed(playbook("playbooks/deploy.yml"))
    # The CronJobs, and the page that is told of them.
    assert changed(playbook("playbooks/deploy.yml", *schedule)) == 2
    assert changed(playbook("playbooks/deploy.yml", *schedule)) == 0
    kubectl("create", "job", "--from=cronjob/postgres-backup", "by-the-clock")
    kubectl("wait", "--for=condition=Complete", "--timeout=120s", "job/by-the-clock")
    name = json.loads(ask("/api/status")[1])["backup"]["name"]
    assert name.endswith("-scheduled")
    assert name > backup
    kubectl("delete", "job", "by-the-clock")
    assert changed(playbook("playbooks/deploy.yml")) == 2
    assert items("cronjobs") == []


ARCHIVE = ("-e", "postgres_archive=true")


def note(text: str) -> None:
    """Write a row through the site."""
    assert ask("/api/notes", {"text": text})[0] == 201


def now() -> str:
    """The server's time, with a second around it in which nothing is written."""
    time.sleep(1.1)
    moment = sql("select to_char(now() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')")
    time.sleep(1.1)
    return moment


def wait_until(statement: str, wanted: str, seconds: float) -> float:
    """Ask until the answer is the wanted one; return the seconds it took."""
    return wait_for(lambda: sql(statement) == wanted, seconds, lambda: statement)


ARCHIVED = "select count(*) from pg_stat_archiver where last_archived_wal >= '{}'"


def wait_until_archived() -> None:
    """All that was written so far is in the archive."""
    file = sql("select pg_walfile_name(pg_switch_wal())")
    wait_until(ARCHIVED.format(file), "1", 60)


def to_time(moment: str) -> list[str]:
    """What restore.yml is told to go back to a moment."""
    return [*ARCHIVE, "-e", f"to_time='{moment}'"]


def moment_of(name: str) -> str:
    """Write a note before a moment and one after it, which tell its name; return the moment."""
    note(f"written before the {name}")
    moment = now()
    note(f"written after the {name}")
    return moment


def restored(moment: str, name: str) -> float:
    """Restore to a moment of `moment_of`; return how many seconds that took."""
    began = time.monotonic()
    run = playbook("playbooks/restore.yml", *to_time(moment))
    assert run.returncode == 0, run.stdout + run.stderr
    seconds = time.monotonic() - began
    texts = sql("select text from notes_note").splitlines()
    assert f"written before the {name}" in texts
    assert f"written after the {name}" not in texts
    return seconds


def test_point_in_time() -> None:
    """Rows from before the moment are there, those after it are not; a time outside the archive changes nothing."""
    assert playbook("playbooks/deploy.yml", *ARCHIVE).returncode == 0
    wait_for_base_backup()
    # RPO: how long what was written stays out of the archive, where nobody asks for it to be archived.
    note("written for the archive")
    file = sql("select pg_walfile_name(pg_current_wal_lsn())")
    seconds = wait_until(ARCHIVED.format(file), "1", 300)
    print(f"\nRPO: a row was in the archive {seconds:.0f} s after it was written")

    moment = moment_of("moment")
    before = sql("select pg_postmaster_start_time()")
    for time_, message in {
        "2020-01-01 00:00:00": "cannot be restored. These moments can: ",
        "2999-01-01 00:00:00": "has not come yet",
        "yesterday-ish": "is no time. Write it as",
    }.items():
        run = playbook("playbooks/restore.yml", *to_time(time_))
        assert run.returncode != 0
        assert message in run.stdout, run.stdout
    assert sql("select pg_postmaster_start_time()") == before, "nothing was touched"

    print(f"restore to {moment}: {restored(moment, 'moment'):.1f} s")
    note("written after the restore")
    # The schema is of that moment too: the next deploy migrates again, and the one after it has nothing to do.
    assert changed(playbook("playbooks/deploy.yml", *ARCHIVE)) > 0
    assert changed(playbook("playbooks/deploy.yml", *ARCHIVE)) == 0


def test_restore_to_a_moment_that_was_killed_converges() -> None:
    """The playbook and its pod killed while the server is down; the next run ends what they began."""
    moment = moment_of("second moment")
    killed = begin("playbooks/restore.yml", *to_time(moment), output=subprocess.DEVNULL)
    names: list[str] = []
    while not any("restoring the data" in kubectl("logs", name) for name in names):
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.1)
        pods = items("pods", "-l", "app.kubernetes.io/component=backup")
        running = [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"]
        names = [name for name in running if name.startswith("postgres-restore-time")]
    kill(killed)
    kubectl("delete", "pod", *names, "--grace-period=0", "--force")
    assert items("statefulsets")[0]["spec"]["replicas"] == 0

    print(f"\nrestore to a moment, killed, and run again: {restored(moment, 'second moment'):.1f} s")
    note("written after the second restore")
    assert not restore_jobs()


def test_restore_to_a_moment_that_was_killed_after_it_begins_anew() -> None:
    """The server has the restored data, and its rows since; run again, the same command restores that moment again."""
    moment = moment_of("third moment")
    killed = begin("playbooks/restore.yml", *to_time(moment), output=subprocess.DEVNULL)
    while not restored_and_started():
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.1)
    kill(killed)
    kubectl("rollout", "status", "statefulset/postgres", "--timeout=60s")
    wait_until("select count(*) from notes_note where text like '%third moment'", "1", 60)
    sql("set role kubernetes_django_owner; insert into notes_note (text) values ('written after the third moment')")
    restored(moment, "third moment")


def test_4_restore_to_a_moment_that_is_reported_as_failed_never_happens() -> None:
    fails_for_good(*to_time(now()), "-e", json.dumps({"postgres_resources": HUGE}))


def test_3_forward_again_across_restores() -> None:
    """To a moment that an earlier restore has undone, and whose base backup is on another timeline."""
    first, second = moment_of("way back"), moment_of("way forward")
    restored(first, "way back")
    note("written on a branch")
    restored(second, "way forward")
    texts = sql("select text from notes_note").splitlines()
    assert "written after the way back" in texts
    assert "written on a branch" not in texts
    kept = Path(f"/data/{NAMESPACE}-pv/pgdata.original")
    assert kept.is_dir()
    assert changed(playbook("playbooks/restore.yml", *ARCHIVE, "-e", "forget_original=true")) == 1
    assert not kept.exists()


def restore_jobs() -> list[dict]:
    """The Jobs of restores to a moment."""
    return [job for job in items("jobs") if job["metadata"]["name"].startswith("postgres-restore-time")]


def restored_and_started() -> bool:
    """Whether a restore to a moment has done its work, and the server was told to start."""
    done = any(job.get("status", {}).get("succeeded") for job in restore_jobs())
    return done and items("statefulsets")[0]["spec"]["replicas"] == 1


def test_7_server_that_does_not_start_is_restored_from_its_archive() -> None:
    """Its data is damaged: all that was archived comes back, and the damaged data is kept."""
    wait_for_base_backup()
    note("written before the damage")
    wait_until_archived()
    data = Path(f"/data/{NAMESPACE}-pv/pgdata")
    # A server that is stopped writes this file once more.
    kubectl("scale", "statefulset/postgres", "--replicas=0")
    kubectl("wait", "--for=delete", "pod/postgres-0", "--timeout=60s")
    os.truncate(data / "global" / "pg_control", 0)
    kubectl("scale", "statefulset/postgres", "--replicas=1")
    wait_for(lambda: "CrashLoopBackOff" in kubectl("get", "pod", "postgres-0", "--ignore-not-found"), 60)
    began = time.monotonic()
    run = playbook("playbooks/restore.yml", *to_time(time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())))
    assert run.returncode == 0, run.stdout + run.stderr
    print(f"\nserver with damaged data restored from its archive: {time.monotonic() - began:.1f} s")
    assert "The server does not answer: what it has not archived is not restored." in run.stdout
    assert "written before the damage" in sql("select text from notes_note")
    # The test before has deleted what was there before the first restore, and this is a first one again.
    assert (data.with_name("pgdata.original") / "global" / "pg_control").stat().st_size == 0
    note("written after the damage")
    listed = playbook("playbooks/backups.yml", *ARCHIVE).stdout
    assert re.search(r"Any moment from 20\S+ \S+ UTC to 20\S+ \S+ UTC can be restored: -e to_time=", listed), listed
    assert re.search(r"archive (took the log \d+ s ago|has no log yet)", playbook("playbooks/status.yml").stdout)
