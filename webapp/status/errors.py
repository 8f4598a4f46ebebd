"""What a database error means, as a sentence, and what to do about it.

The server's own words are for the log: they may quote values. What is shown is written here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.conf import settings


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    `level` is `down` (the database does not serve this site) or `degraded` (it does, with a limitation).
    """

    code: str
    level: str
    summary: str
    advice: str


# Code: the sentence, and what to do. `{…}` are filled from the settings, never with the password.
_CAUSES = {
    "wrong_password": (
        "The database refuses the password of user {user}.",
        "The password in the Secret and the one in the database differ: make them equal, then restart the pods.",
    ),
    "no_such_user": (
        "The database has no user {user} who may log in.",
        "Check POSTGRES_USER, or create the role.",
    ),
    "no_such_database": (
        "The server at {host} has no database {name}.",
        "Check POSTGRES_DB, or create the database.",
    ),
    "too_many_connections": (
        "The database has no free connection left.",
        "Lower replicas, workers or threads, or raise max_connections.",
    ),
    "unknown_host": (
        "The database's host name {host} cannot be resolved.",
        "Check POSTGRES_HOST, that its Service exists, and that the cluster's DNS works.",
    ),
    "restarting": (
        "The database is starting or stopping.",
        "Wait a moment; if it stays so, read the log of the database's pod.",
    ),
    "paused": (
        "The database is closed: a backup is being restored, or PostgreSQL upgraded.",
        "Wait for its end; if none is under way, run playbooks/restore.yml or upgrade_postgres.yml again.",
    ),
    "not_admitted": (
        "The database does not admit user {user} from this address.",
        "Check pg_hba.conf and whether the server demands TLS (POSTGRES_SSLMODE).",
    ),
    "tls_failed": (
        "No trusted TLS connection to {host} comes about.",
        "Check POSTGRES_SSLMODE, POSTGRES_SSLROOTCERT and the server's certificate.",
    ),
    "slow": (
        "The database took too long to answer.",
        "Look for locks, long transactions, and a busy disk or CPU on the database's node.",
    ),
    "timeout": (
        "The database at {host}:{port} does not answer.",
        "Check that its pod runs, that its node and disk are healthy, and that no network policy drops the packets.",
    ),
    "refused": (
        "Nothing listens at {host}:{port}.",
        "Check that the database's pod runs and that its Service has endpoints.",
    ),
    "no_permission": (
        "User {user} may not read what this page shows.",
        "Grant SELECT on django_migrations and the site's tables to {user}.",
    ),
    "disk_full": (
        "The database's disk is full.",
        "Free space on the database's volume, or make it larger.",
    ),
    "unexpected": (
        "The database could not be asked.",
        "The pod's log has the cause under this request's id.",
    ),
}
_SQLSTATES = {
    "53100": "disk_full",
    "57014": "slow",
    "42501": "no_permission",
    "53300": "too_many_connections",
    "57P01": "restarting",
    "57P03": "restarting",
}
# What fails before a statement runs has no SQLSTATE in psycopg2, only a text. The first match wins.
_TEXTS = [
    (r"password authentication failed|no password supplied", "wrong_password"),
    (r'role ".*" does not exist|role ".*" is not permitted to log in', "no_such_user"),
    (r'database ".*" does not exist', "no_such_database"),
    (r"too many connections for database", "paused"),  # a limit of 0, which upgrade.sh sets
    (r"too many clients|remaining connection slots|too many connections for", "too_many_connections"),
    (r"could not translate host name", "unknown_host"),
    (r'database ".*" is not currently accepting connections', "paused"),
    (r"starting up|shutting down|recovery mode|not yet accepting connections|terminating connection", "restarting"),
    (r"closed the connection unexpectedly|connection has been closed|connection reset", "restarting"),
    (r"no pg_hba\.conf entry|pg_hba\.conf rejects", "not_admitted"),
    (r"certificate|does not support SSL|SSL error", "tls_failed"),
    (r"timed out|timeout|No route to host|Network is unreachable", "timeout"),
    (r"Connection refused", "refused"),
]


def explain(error: Exception) -> Problem:
    """The problem behind a database error. Its text is searched, but not passed on."""
    database = settings.DATABASES["default"]
    values = {
        "user": database["USER"],
        "name": database["NAME"],
        "host": database["HOST"],
        "port": database["PORT"],
    }
    if sqlstate := getattr(error.__cause__, "pgcode", None):
        code = _SQLSTATES.get(sqlstate, "unexpected")
    else:
        text = str(error)
        code = next((code for pattern, code in _TEXTS if re.search(pattern, text, re.IGNORECASE)), "unexpected")
    summary, advice = _CAUSES[code]
    return Problem(code, "down", summary.format(**values), advice.format(**values))
