#!/usr/bin/env python3
"""Prints how long backup, drill, restore and a restore to a moment take for a database of so many gigabytes.

    .venv/bin/python bench/backup.py --gigabytes 10

Works on the tests' site (molecule/inventory), which it makes, fills and takes away again. The rows are like an
application's: a key, a time, a number, and some text; with two indexes beside the primary key. Needs kubectl, and room
on the node for six times as much. Figures of one run on one machine: not for another day's.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import time

from deploy import play

SITE = ["kubectl", "--namespace", "molecule", "exec", "-i", "postgres-0", "-c", "postgres", "--"]
TABLES = 8
ROWS_OF_A_GIGABYTE = 3_500_000
ARCHIVE = ("-e", "postgres_archive=true")
NOTHING_KEPT = ("-e", "postgres_restore_keep_replaced=false")
RESET = ("-e", "reset_data=true", "-e", "reset_backups=true")
TOLD = "made the backup|has to wait|restored the data|drill passed"


def sql(statement: str) -> str:
    """Run SQL as the superuser in the site's database; return what it prints."""
    psql = ["psql", "-XAtq", "-U", "postgres", "-d", "kubernetes_django", "-v", "ON_ERROR_STOP=1", "-c", statement]
    return subprocess.run([*SITE, *psql], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def fill(gigabytes: float) -> int:
    """Make the tables, as the owner; return how many bytes the database has then."""
    rows = int(gigabytes * ROWS_OF_A_GIGABYTE / TABLES)
    owner = sql("select quote_ident(pg_get_userbyid(datdba)) from pg_database where datname = current_database()")
    for number in range(TABLES):
        sql(f"""
            set role {owner};
            create table bench_{number} as
            select i as id, now() - i * interval '1 s' as at, i % 1000 as kind,
                repeat(md5(i::text), 2) || repeat('a line of text ', 6) as text
            from generate_series(1, {rows}) as i;
            alter table bench_{number} add primary key (id);
            create index on bench_{number} (at);
            create index on bench_{number} (kind, id)""")
    return int(sql("select pg_database_size(current_database())"))


def show(what: str, seconds: float, size: int) -> None:
    """Print a line of the result."""
    print(f"{what}: {seconds:.0f} s, {size / seconds / 1e6:.0f} MB of database a second", flush=True)


def timed(what: str, size: int, playbook: str, *arguments: str) -> None:
    """Run a playbook, print what it took and what it said of its Job."""
    seconds, output = play(playbook, *arguments)
    show(what, seconds, size)
    for line in re.findall(f"^.*(?:{TOLD}).*$", output, re.MULTILINE):
        print(f"    {line.strip()}", flush=True)


def archive(size: int) -> None:
    """Turn the archive on, and print how long its first base backup takes."""
    play("playbooks/deploy.yml", *ARCHIVE)
    began = time.monotonic()
    log = ["kubectl", "--namespace", "molecule", "logs", "postgres-0", "-c", "archive"]
    while "made a base backup" not in subprocess.run(log, check=True, stdout=subprocess.PIPE, text=True).stdout:
        time.sleep(1)
    show("first base backup of the archive", time.monotonic() - began, size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=10)
    gigabytes = parser.parse_args().gigabytes
    play("playbooks/vault.yml")
    play("playbooks/reset.yml", *RESET)
    play("playbooks/deploy.yml")
    size = fill(gigabytes)
    print(f"{size / 1e9:.1f} GB in {TABLES} tables, with three indexes each", flush=True)
    timed("backup", size, "playbooks/backup.yml")
    timed("drill", size, "playbooks/restore_drill.yml")
    timed("restore, with the backup before it", size, "playbooks/restore.yml", "-e", "backup=latest", *NOTHING_KEPT)
    archive(size)
    moment = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S}"
    timed("restore to a moment", size, "playbooks/restore.yml", "-e", json.dumps({"to_time": moment}), *ARCHIVE)
    play("playbooks/reset.yml", *RESET)


if __name__ == "__main__":
    main()
