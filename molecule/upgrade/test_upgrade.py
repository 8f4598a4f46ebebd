"""What an upgrade of PostgreSQL promises, from 15 to 17 on a real cluster. The figures are printed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from scenario import (
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
    wait_for_base_backup,
)
from traffic import Reader, Writer

ROWS, MORE_ROWS = 50_000, 400_000
SITE = ["-e", "@molecule/upgrade/vars/upgrade.yml"]
OLD, NEW = [*SITE, "-e", "image_postgres_major=15"], [*SITE, "-e", "image_postgres_major=17"]
# The second site, from `fifteen` on, archives its log.
ARCHIVE = ["-e", "postgres_archive=true"]
DEPLOY, UPGRADE = "playbooks/deploy.yml", "playbooks/upgrade_postgres.yml"
# Tasks of an upgrade, in their order. The midst of the copy, and the moment after `.opened`, have tests of their own.
STEPS = (
    "upgrade_copy | Tell",
    "upgrade_switch | Label the claim that has the data",
    "upgrade_switch | Give the server the other image and volume",
    "upgrade_switch | Wait for it",
    "upgrade | Note that there is no way back",
    "upgrade | Note it on the new volume",
    "upgrade_open | Let everybody in again",
    "upgrade | Reconcile the new server with its files",
    "upgrade_done | Delete the Jobs of the upgrade",
    "upgrade_done | Forget the server before",
)
# Everything of the server but its rows, a line each. The site's own roles get their passwords once more, with new salt.
SURROUNDINGS = """
select 'role', rolname, rolsuper, rolcanlogin, rolconnlimit,
case rolname when 'reporter' then rolpassword else (rolpassword is not null)::text end from pg_authid
where rolname !~ '^pg_' order by 2;
select 'member', roleid::regrole, member::regrole from pg_auth_members
where member::regrole::text !~ '^pg_' order by 2, 3;
select 'default', defaclobjtype, acl::text from pg_default_acl, unnest(defaclacl) as acl
where acl::text !~ '^[^=]*_owner=' order by 2, 3;
select 'right', acl::text from pg_database, unnest(datacl) as acl where datname = current_database() order by 2;
select 'database', datname, pg_get_userbyid(datdba), datconnlimit, datcollate from pg_database
where not datistemplate order by 2;
select 'setting', setrole, setconfig from pg_db_role_setting order by 2, 3;
select 'extension', extname from pg_extension order by 2;
select 'server', name, setting from pg_settings where name in
('ssl', 'max_connections', 'log_min_duration_statement', 'data_checksums', 'shared_buffers', 'hba_file') order by 2;
select 'table', relname, pg_get_userbyid(relowner) from pg_class
where relkind in ('r', 'S', 'v') and relnamespace = 'public'::regnamespace order by 2;
"""


def fill(rows: int) -> None:
    """Tables of the site's owner, with what an upgrade could lose."""
    sql(f"""
        set role kubernetes_django_owner;
        create table big (id bigint generated always as identity primary key, text text, at timestamptz default now());
        create index on big using gin (text gin_trgm_ops);
        insert into big (text) select md5(i::text) from generate_series(1, {rows}) i;
        create table parted (id serial, day date) partition by range (day);
        create table parted_1 partition of parted for values from ('2026-01-01') to ('2027-01-01');
        insert into parted (day) select '2026-01-01'::date + i % 365 from generate_series(1, {rows // 10}) i;
        create view short as select id from big where id < 10;
        select lo_from_bytea(0, 'a large object') \\g /dev/null
    """)
    ask("/api/notes", {"text": "written into 15"})


def checksums() -> dict[str, str]:
    """Table -> how many rows it has, and their checksum."""
    tables = ("big", "parted", "notes_note", "django_migrations")
    query = "select count(*), md5(string_agg(md5(t::text), '' order by id)) from {} t"
    return {table: sql(query.format(table)) for table in tables}


def major() -> str:
    """Of the server that runs."""
    return sql("show server_version").partition(".")[0]


def claim() -> str:
    """That the server has its data on."""
    server = json.loads(kubectl("get", "statefulset/postgres", "-o", "json"))
    volumes = server["spec"]["template"]["spec"]["volumes"]
    return next(volume["persistentVolumeClaim"]["claimName"] for volume in volumes if volume["name"] == "data")


def web_pods() -> dict[str, int]:
    """The site's own pods, and how often each was restarted."""
    return {pod: count for pod, count in pods_as_they_are().items() if pod.startswith("kubernetes-django")}


def serves() -> None:
    """The site reads and writes rows, and nothing of an upgrade is left over."""
    assert ask("/api/notes", {"text": f"written into {major()}"})[0] == 201
    assert sql("select datconnlimit from pg_database where datname = current_database()") == "-1"
    assert items("jobs", "-l", "app.kubernetes.io/component=upgrade") == []


def cause(run: subprocess.CompletedProcess[str]) -> str:
    """What a user reads last of a failed run: the message of the task that failed last."""
    assert run.returncode != 0, run.stdout
    return run.stdout.rpartition("PLAY RECAP")[0][-1500:]


def test_deploy_refuses_another_major() -> None:
    """It names the playbook, and touches nothing."""
    pods = pods_as_they_are()
    run = playbook(DEPLOY, *NEW)
    assert run.returncode != 0
    assert "image_postgres_major: the data is PostgreSQL 15's, and this deploy would bring 17" in run.stdout, run.stdout
    assert "playbooks/upgrade_postgres.yml takes the data there" in " ".join(run.stdout.split())
    assert pods_as_they_are() == pods


def test_upgrade() -> None:
    """15 to 17 while the site is in use: nothing that was acknowledged is lost, all is as before but the version."""
    fill(ROWS)
    sql("create role reporter login password 'kept' connection limit 3; grant select on big to reporter")
    sql("alter database kubernetes_django set work_mem = '5MB'; create database other owner reporter")
    sql("create table one (id int); insert into one values (1)", "other")
    surroundings, rows, pods = sql(SURROUNDINGS), checksums(), web_pods()
    assert major() == "15"

    began = time.monotonic()
    with Reader(URL, rate=20) as reader, Writer(URL, rate=10) as writer:
        run = playbook(UPGRADE, *NEW)
    seconds = time.monotonic() - began
    assert run.returncode == 0, run.stdout + run.stderr
    print(f"\nupgrade of {ROWS} rows: {seconds:.0f} s, site without its database for {reader.longest_gap():.1f} s")
    print(f"readers: {reader.figures()}\nwriters: {writer.figures()}")
    print(re.search(r"copied .*", run.stdout)[0])
    print(re.search(r"PostgreSQL is 17 now.*", run.stdout)[0])

    assert major() == "17"
    assert claim() == "postgres-pvc-17"
    assert web_pods() == pods, "no pod of the site was restarted"
    assert {request.outcome for request in reader.failures} <= {503}
    assert sql(SURROUNDINGS) == surroundings
    texts = set(sql("select text from notes_note").splitlines())
    assert writer.lost(texts) == []
    assert "written into 15" in texts
    now = checksums()
    for table in ("big", "parted", "django_migrations"):
        assert now[table] == rows[table], table
    assert sql("select * from one", "other") == "1"
    assert sql("select convert_from(lo_get(oid), 'utf8') from pg_largeobject_metadata") == "a large object"
    # Sequences go on where they were.
    assert sql("insert into big (text) values ('new') returning id") == str(ROWS + 1)
    assert sql("insert into parted (day) values ('2026-02-02') returning id") == str(ROWS // 10 + 1)
    serves()


def test_deploy_after_it_changes_nothing() -> None:
    """Nor does a second upgrade."""
    assert changed(playbook(DEPLOY, *NEW)) == 0
    run = playbook(UPGRADE, *NEW)
    assert changed(run) == 0
    assert "PostgreSQL is 17 already." in run.stdout
    back = playbook(DEPLOY, *OLD)
    assert "the data is PostgreSQL 17's, which no PostgreSQL 15 can read. Set it to 17." in back.stdout


def test_data_is_found_without_a_server() -> None:
    """After a reset nothing but the volumes is left, and the old one is one of them."""
    assert playbook("playbooks/reset.yml", *NEW).returncode == 0
    assert playbook(DEPLOY, *NEW).returncode == 0
    assert claim() == "postgres-pvc-17"
    assert sql("select count(*) from big") == str(ROWS + 1)
    serves()


def test_minor_upgrade_is_one_restart() -> None:
    """Another image of the same major version: the deploy takes it."""
    image = items("statefulsets")[0]["spec"]["template"]["spec"]["containers"][0]["image"]
    minor = f"{image.rpartition(':')[0]}:17-minor"
    subprocess.run(["ctr", "--namespace", "k8s.io", "images", "tag", "--force", image, minor], check=True)
    before, rows = sql("select pg_postmaster_start_time()"), checksums()
    with Reader(URL, rate=20) as reader:
        run = playbook(DEPLOY, *NEW, "-e", f"image_postgres_reference={minor}")
    assert changed(run) >= 1
    print(f"\nminor upgrade: site without its database for {reader.longest_gap():.1f} s")
    assert items("statefulsets")[0]["spec"]["template"]["spec"]["containers"][0]["image"] == minor
    assert sql("select pg_postmaster_start_time()") != before
    assert checksums() == rows
    assert kubectl("get", "pod/postgres-0", "-o", "jsonpath={.status.containerStatuses[0].restartCount}") == "0"


def test_old_volume_goes_when_told() -> None:
    """It says what it deleted."""
    kept = {each["metadata"]["name"] for each in items("persistentvolumeclaims")}
    assert {"postgres-pvc", "postgres-pvc-17"} <= kept
    run = playbook(UPGRADE, *NEW, "-e", "upgrade_delete_old=true")
    assert run.returncode == 0, run.stdout + run.stderr
    said = re.search(r"deleted /data/molecule-upgrade-pv, \S+", run.stdout)
    assert said, run.stdout
    print(f"\n{said[0]}")
    left = {each["metadata"]["name"] for each in items("persistentvolumeclaims")}
    assert left == kept - {"postgres-pvc"}
    assert changed(playbook(DEPLOY, *NEW)) in (0, 1), "the image of the test before is the one thing that may differ"
    assert major() == "17"


@pytest.fixture(scope="module")
def fifteen() -> None:
    """A new site on 15, after all data is gone; it archives its log."""
    assert playbook("playbooks/reset.yml", *NEW, "-e", "reset_data=true").returncode == 0
    assert changed(playbook(DEPLOY, *OLD, *ARCHIVE)) > 0
    assert major() == "15"
    assert claim() == "postgres-pvc"
    fill(MORE_ROWS)


@pytest.mark.usefixtures("fifteen")
def test_failure_halfway_puts_the_old_server_back() -> None:
    """An index on a function that a restore cannot run, as people have them: it fails when the data is there."""
    sql("""
        set role kubernetes_django_owner;
        create function peek(bigint) returns bigint immutable language sql as
        'select count(*) from parted where id < $1';
        create table ranked as select id from big limit 5;
        create index on ranked (peek(id));
    """)
    pods, rows = pods_as_they_are(), checksums()
    with Reader(URL, rate=20) as reader:
        run = playbook(UPGRADE, *NEW, *ARCHIVE)
    said = " ".join(cause(run).split())
    assert 'the data could not be copied: ERROR: relation "parted" does not exist' in said, said
    assert "the old server serves again, with its data as it was (claim postgres-pvc)." in said, said
    print(f"\nfailed halfway: {reader.figures()}")
    serving = {pod: count for pod, count in pods_as_they_are().items() if pod in pods}
    assert serving == pods, "the old server was not even restarted"
    assert major() == "15"
    before = rows | {"notes_note": ""}
    assert checksums() | {"notes_note": ""} == before
    serves()
    sql("drop table ranked; drop function peek")


@pytest.mark.usefixtures("fifteen")
def test_extension_that_is_no_more_is_said_before() -> None:
    """Which went with 17: adminpack. Nobody had to wait for that answer."""
    sql("create extension adminpack")
    with Reader(URL, rate=20) as reader:
        run = playbook(UPGRADE, *NEW, *ARCHIVE)
    sql("drop extension adminpack")
    assert "has no extension adminpack, which the database kubernetes_django uses: DROP EXTENSION it first." in cause(
        run
    )
    assert reader.failures == []
    serves()


def spoil_the_copy() -> None:
    """Cut off a file that a server needs for its start, between the end of the copy and the switch."""
    for _ in range(600):
        jobs = items("jobs", "-l", "app.kubernetes.io/component=upgrade")
        if any(job.get("status", {}).get("succeeded") for job in jobs):
            os.truncate(Path("/data/molecule-upgrade-pv-17/pgdata/global/pg_control"), 0)
            return
        time.sleep(0.1)


def open_the_database() -> None:
    """As somebody might, between the end of the copy and the switch."""
    for _ in range(600):
        jobs = items("jobs", "-l", "app.kubernetes.io/component=upgrade")
        if any(job.get("status", {}).get("succeeded") for job in jobs):
            sql("alter database kubernetes_django connection limit -1", "postgres")
            return
        time.sleep(0.1)


@pytest.mark.usefixtures("fifteen")
def test_2_database_that_somebody_opened_is_not_left_behind() -> None:
    """What the site writes from then on is not in the copy."""
    opener = threading.Thread(target=open_the_database)
    opener.start()
    with Writer(URL, rate=10) as writer:
        run = playbook(UPGRADE, *NEW, *ARCHIVE)
    opener.join()
    said = " ".join(cause(run).split())
    assert "Somebody has opened since they were copied, or made: kubernetes_django." in said, said
    assert "the old server serves again, with its data as it was (claim postgres-pvc)." in said, said
    assert (major(), claim()) == ("15", "postgres-pvc")
    assert writer.lost(set(sql("select text from notes_note").splitlines())) == []
    assert items("pods", "-l", "app.kubernetes.io/component=upgrade") == []
    serves()


@pytest.mark.usefixtures("fifteen")
def test_failure_after_the_switch_puts_the_old_server_back() -> None:
    """The new server does not start in the old one's place."""
    rows, pods = checksums(), web_pods()
    spoiler = threading.Thread(target=spoil_the_copy)
    spoiler.start()
    with Reader(URL, rate=20) as reader, Writer(URL, rate=10) as writer:
        run = playbook(UPGRADE, *NEW, *ARCHIVE)
    spoiler.join()
    said = " ".join(cause(run).split())
    assert "StatefulSet postgres is not ready:" in said, said
    assert "the old server serves again, with its data as it was (claim postgres-pvc)." in said, said
    print(f"\nfailed after the switch: site without its database for {reader.longest_gap():.1f} s; {reader.figures()}")
    assert {request.outcome for request in reader.failures} <= {503}
    assert (major(), claim()) == ("15", "postgres-pvc")
    assert web_pods() == pods
    assert checksums() | {"notes_note": ""} == rows | {"notes_note": ""}
    assert writer.lost(set(sql("select text from notes_note").splitlines())) == []
    serves()
    assert changed(playbook(DEPLOY, *OLD, *ARCHIVE)) == 0


@pytest.mark.usefixtures("fifteen")
def test_2_killed_and_run_again() -> None:
    """Playbook and Job killed in the middle; a deploy says what to do; the next run ends it."""
    rows = checksums()
    run = begin(UPGRADE, *NEW, *ARCHIVE, output=subprocess.DEVNULL)
    for _ in range(600):
        pods = items("pods", "-l", "app.kubernetes.io/component=upgrade")
        name = pods[0]["metadata"]["name"] if pods else ""
        if name and pods[0]["status"]["phase"] == "Running" and "copying the database" in kubectl("logs", name):
            break
        assert run.poll() is None
        time.sleep(0.1)
    kill(run)
    kubectl("delete", "pod", name, "--grace-period=0", "--force")

    deploy = playbook(DEPLOY, *OLD, *ARCHIVE)
    assert deploy.returncode != 0
    assert "An upgrade of PostgreSQL was interrupted (Job postgres-upgrade-" in deploy.stdout, deploy.stdout
    # The Job goes on in another pod. A check of the next run leaves the databases as that needs them.
    closed = "select datconnlimit from pg_database where datname = current_database()"
    for _ in range(600):
        if sql(closed) == "0":
            break
        time.sleep(0.1)
    playbook(UPGRADE, *NEW, *ARCHIVE, "--check")
    assert sql(closed) == "0"
    began = time.monotonic()
    again = playbook(UPGRADE, *NEW, *ARCHIVE)
    assert again.returncode == 0, again.stdout + again.stderr
    print(f"\nkilled in the middle, the next run took {time.monotonic() - began:.0f} s")
    assert major() == "17"
    assert checksums() == rows
    serves()
    assert changed(playbook(DEPLOY, *NEW, *ARCHIVE)) == 0
    # The new server has an archive of its own, whose first base backup needs that its log arrives there.
    wait_for_base_backup()


def test_2_killed_after_the_opening_there_is_no_way_back() -> None:
    """The next run finds the new server, which the site has written into, not ready, and does not put the old one back.

    When it is mended, the run after it ends the upgrade, with all that was written.
    """
    assert playbook("playbooks/reset.yml", *NEW, "-e", "reset_data=true").returncode == 0
    assert changed(playbook(DEPLOY, *OLD, *ARCHIVE)) > 0
    opened = Path("/data/molecule-upgrade-pv-17/.opened")
    run = begin(UPGRADE, *NEW, *ARCHIVE, output=subprocess.DEVNULL)
    while not opened.exists():
        assert run.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    kill(run)
    sql("alter database kubernetes_django connection limit -1", "postgres")
    assert ask("/api/notes", {"text": "written into the new server"})[0] == 201
    server = json.loads(kubectl("get", "statefulset/postgres", "-o", "json"))
    image = server["spec"]["template"]["spec"]["containers"][0]["image"]
    kubectl("set", "image", "statefulset/postgres", "postgres=localhost/nowhere:17-none")
    said = " ".join(cause(playbook(UPGRADE, *NEW, *ARCHIVE)).split())
    assert "so the old one is not put back. Mend what is named above, and run this again." in said, said
    assert claim() == "postgres-pvc-17"
    kubectl("set", "image", "statefulset/postgres", f"postgres={image}")
    again = playbook(UPGRADE, *NEW, *ARCHIVE)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "written into the new server" in sql("select text from notes_note")
    assert (major(), claim()) == ("17", "postgres-pvc-17")
    serves()


def kill_before(task: str) -> None:
    """Run the upgrade, and kill it when it comes to a task."""
    run = begin(UPGRADE, *NEW, *ARCHIVE)
    seen = []
    for line in run.stdout:
        seen.append(line)
        if line.startswith("TASK [") and f"{task}]" in line:
            kill(run)
            return
    raise AssertionError(f"the run did not come to {task}:\n{''.join(seen)}")


def test_2_killed_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run goes on where the one before was killed. No row of before or acknowledged meanwhile is lost."""
    assert playbook("playbooks/reset.yml", *NEW, "-e", "reset_data=true").returncode == 0
    assert changed(playbook(DEPLOY, *OLD, *ARCHIVE)) > 0
    fill(10_000)
    rows = checksums()
    # So that each task is named when it begins.
    monkeypatch.setenv("ANSIBLE_DISPLAY_OK_HOSTS", "true")
    monkeypatch.setenv("ANSIBLE_DISPLAY_SKIPPED_HOSTS", "true")
    acknowledged = []
    for step in STEPS:
        kill_before(step)
        with contextlib.suppress(OSError):  # closed, or on its way
            ask("/api/notes", {"text": step})
            acknowledged.append(step)
    again = playbook(UPGRADE, *NEW, *ARCHIVE)
    assert again.returncode == 0, again.stdout + again.stderr
    assert acknowledged, "the databases were never opened"
    assert set(acknowledged) <= set(sql("select text from notes_note").splitlines())
    del rows["notes_note"]
    assert rows.items() <= checksums().items()
    assert (major(), claim()) == ("17", "postgres-pvc-17")
    serves()


def test_all_volumes_go_with_the_data() -> None:
    """A reset that is told to delete the data deletes the old volume's as well."""
    run = playbook("playbooks/reset.yml", *NEW, "-e", "reset_data=true")
    assert run.returncode == 0, run.stdout + run.stderr
    volumes = [name for name in kubectl("get", "pv", "-o", "name").split() if "molecule-upgrade-pv" in name]
    assert volumes == []
