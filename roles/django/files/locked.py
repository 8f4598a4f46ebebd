"""Runs the command in its arguments under the advisory lock of migrations, with bounded waits for tables' locks.

For images whose own command does not: needs their Python and psycopg; reads the POSTGRES_ variables, and libpq its own.
The bounds are those of `migrate_locked`, in seconds: MIGRATE_DATABASE_WAIT, MIGRATE_RUNNER_WAIT, MIGRATE_LOCK_TIMEOUT.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

try:
    import psycopg
except ImportError:
    import psycopg2 as psycopg

# A container's first process gets no signal that it does not ask for. The command ends with this one.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
wait = int(os.environ.get("MIGRATE_RUNNER_WAIT", "300"))
lock_timeout = int(os.environ.get("MIGRATE_LOCK_TIMEOUT", "5"))
end = time.monotonic() + int(os.environ.get("MIGRATE_DATABASE_WAIT", "30"))
while True:
    try:
        connection = psycopg.connect(
            host=os.environ["POSTGRES_HOST"],
            port=os.environ["POSTGRES_PORT"],
            dbname=os.environ["POSTGRES_DB"],
            user=os.environ["POSTGRES_USER"],
            password=pathlib.Path(os.environ["POSTGRES_PASSWORD_FILE"]).read_text(encoding="utf-8"),
            connect_timeout=10,
        )
        break
    except psycopg.OperationalError as error:
        # A database that starts; anything else passes no more by waiting, but does not last long either.
        if time.monotonic() >= end:
            sys.exit(f"The database cannot be reached: {error}")
        time.sleep(0.5)
connection.autocommit = True
cursor = connection.cursor()
end, told = time.monotonic() + wait, False
while True:
    # The number of migrate_locked. The lock lives as long as this connection.
    cursor.execute("SELECT pg_try_advisory_lock(%s)", [int.from_bytes(b"migrate", "big")])
    if cursor.fetchone()[0]:
        break
    if time.monotonic() >= end:
        sys.exit(f"Another runner has been migrating for more than {wait} s: wait for it, or end it.")
    if not told:
        print(f"Another runner is migrating; waiting up to {wait} s.", flush=True)
        told = True
    time.sleep(0.5)
# libpq reads this; a project that sets `options` in its own settings decides for itself.
options = f"-c lock_timeout={lock_timeout}s {os.environ.get('PGOPTIONS', '')}"
os.environ["PGOPTIONS"] = options
sys.exit(subprocess.call(sys.argv[1:]))
