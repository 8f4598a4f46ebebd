# GNU General Public License v3.0+ (see LICENSE)
"""The database in its pod: SQL as the superuser over its socket, logins as anybody, and its mounted files."""

from __future__ import annotations

import base64
import re
import shlex
import time
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube, KubeError

CONTAINER = "postgres"
# On the database's pod: what it was told last, see plugins/action/reconcile.py.
RECONCILED = "kubernetes-django/reconciled"
# On it as well: kubelet brings its mounted files up to date when the pod object changes, else within a minute or two.
TOUCHED = "kubernetes-django/touched"
SYNC_SECONDS = 150
# Shell: gives libpq the password on standard input by a file in the pod's memory, whose fields end at a colon. An
# environment can be read in the list of processes, and so can arguments.
PASSFILE = r"""
    umask 077
    PGPASSFILE=$(mktemp) && export PGPASSFILE && trap 'rm -f "$PGPASSFILE"' EXIT
    use_password() { { printf '*:*:*:*:' && sed 's/[\\:]/\\&/g'; } > "$PGPASSFILE"; }
"""
# What a superuser's session must not take from the database it is in: its owner may give it settings, a search_path
# with functions of his own before PostgreSQL's for one. What a client brings goes before these.
PINNED = " ".join(
    f"-c {setting}"
    for setting in (
        "search_path=pg_catalog",
        "role=none",
        "password_encryption=scram-sha-256",
        "default_transaction_read_only=off",
        "statement_timeout=0",
        "lock_timeout=0",
    )
)

# SQL for a session that sets passwords: not even what is stored of them reaches a log, or the statistics of statements.
UNSEEN = """
    SET log_statement = 'none';
    SET log_min_error_statement = 'panic';
    SET log_min_duration_statement = -1;
    SET pg_stat_statements.track = 'none';
"""


@dataclass
class Database:
    """A PostgreSQL that runs in a pod of the cluster.

    Attributes:
        kube: the connection.
        namespace, pod: where it runs.
        name: the database's name.
        port: the server's port.
    """

    kube: Kube
    namespace: str
    pod: str
    name: str
    port: int

    def run(self, *command: str, stdin: str = "") -> tuple[int, str, str]:
        """Run a command in its pod; return exit code, standard output and standard error."""
        return self.kube.run_in_pod(self.namespace, self.pod, CONTAINER, list(command), stdin)

    def sql(self, script: str) -> str:
        """Run a script of psql's as the superuser, all of it or up to its first error; return what it prints.

        Raises:
            KubeError: with the server's message.
        """
        psql = ("env", f"PGOPTIONS={PINNED}", "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres")
        code, output, errors = self.run(*psql, "-p", str(self.port), "-d", self.name, "-f", "-", stdin=script)
        if code:
            raise KubeError(f"PostgreSQL in pod {self.pod}: {last_line(errors)}")
        return output

    def run_script(self, path: str) -> None:
        """Run a script that is mounted in its pod as the superuser: SQL, or bash.

        Raises:
            KubeError: with the server's message, or the script's last line.
        """
        if path.endswith(".sql"):
            self.sql(f"\\i {path}\n")
            return
        code, _, errors = self.run("env", f"PGPORT={self.port}", f"PGOPTIONS={PINNED}", "bash", path)
        if code:
            raise KubeError(f"PostgreSQL in pod {self.pod}: {last_line(errors)}")

    def accepts(self, user: str, password: str) -> bool:
        """Whether the server takes this password for this user, be the database closed or not there.

        Raises:
            KubeError: the server did not decide that: it is not up, for one.
        """
        url = shlex.join(["psql", "-X", "-h", "127.0.0.1", "-p", str(self.port), "-d", self.name, "-U", user, "-c", ""])
        # Standard input does not end here, so only a line of it is taken.
        script = f'{PASSFILE} IFS= read -r password && printf %s "$password" | use_password && {url} < /dev/null'
        code, _, errors = self.run("sh", "-c", script, stdin=f"{password}\n")
        if not code or self.is_shut(errors):
            return True
        if "password authentication failed" not in errors:
            raise KubeError(f"PostgreSQL in pod {self.pod}: {last_line(errors)}")
        return False

    def is_shut(self, errors: str) -> bool:
        """Whether a login failed at the database alone: the server looks at it once the password was right."""
        database = re.escape(f'database "{self.name}"')
        return bool(
            re.search(
                rf"FATAL:  (too many connections for {database}|permission denied for {database}"
                rf"|{database} (is not currently accepting connections|does not exist))$",
                errors,
                re.MULTILINE,
            )
        )

    def refused(self, folders: list[str]) -> list[str]:
        """The users that do not get in with the mounted files `user` (the superuser's has none) and `password`.

        Args:
            folders: where these are.
        """
        script = f"""{PASSFILE}
            for folder; do
                user=$(cat "$folder/user" 2> /dev/null || echo postgres)
                use_password < "$folder/password"
                said=$(psql -X -h 127.0.0.1 -U "$user" -c '' 2>&1 > /dev/null) || printf '%s\\0%s\\0' "$user" "$said"
            done
        """
        place = (f"PGPORT={self.port}", f"PGDATABASE={self.name}")
        _, output, _ = self.run("env", *place, "sh", "-c", script, "sh", *folders)
        told = output.split("\0")
        return [user for user, said in zip(told[::2], told[1::2], strict=False) if not self.is_shut(said)]

    def stale(self, files: dict[str, str], secrets: dict[str, str]) -> list[str]:
        """Those of the mounted files that are not, or not yet, what they should be: see `sync`."""
        _, output, _ = self.run("sha256sum", *files)
        found = {line[66:]: line[:64] for line in output.splitlines()}
        _, output, _ = self.run("sh", "-c", 'for file; do base64 "$file" | tr -d "\\n"; echo; done', "sh", *secrets)
        contents = dict(zip(secrets, output.split("\n"), strict=False))
        encoded = {path: base64.b64encode(value.encode()).decode() for path, value in secrets.items()}
        return [path for path in files if found.get(path) != files[path]] + [
            path for path in secrets if contents.get(path) != encoded[path]
        ]

    def sync(self, files: dict[str, str], secrets: dict[str, str]) -> bool:
        """Wait until the mounted files are these; return whether there was anything to wait for.

        Args:
            files: path -> SHA-256.
            secrets: path -> content.

        Raises:
            KubeError: they did not within SYNC_SECONDS.
        """
        end = time.monotonic() + SYNC_SECONDS
        if not self.stale(files, secrets):
            return False
        while time.monotonic() < end:
            self.annotate(TOUCHED, str(time.time()))
            for _ in range(10):
                if not (stale := self.stale(files, secrets)):
                    return True
                time.sleep(0.3)
        raise KubeError(f"{', '.join(stale)} in pod {self.pod}: not brought up to date within {SYNC_SECONDS} s.")

    def annotate(self, name: str, value: str) -> None:
        """Put an annotation on the pod."""
        self.kube.annotate("Pod", self.pod, self.namespace, name, value)


def database_of(kube: Kube, values: dict[str, Any]) -> Database:
    """The site's own server, as the options of role postgres have it."""
    pod = f"{values['postgres_name']}-0"
    return Database(kube, values["site_namespace"], pod, values["postgres_database"], values["postgres_port"])


def change_password(user: str, password: str) -> str:
    """Lines for psql that give a role a password, of which psql makes a SCRAM verifier: the server never hears it.

    psql takes the password, twice, from where its script comes from, where that is standard input and no terminal.

    Raises:
        KubeError: the password has more than one line.
    """
    if "\n" in password:
        raise KubeError(f"The password of {user} has more than one line.")
    return f"\\password {quoted_name(user)}\n{password}\n{password}"


def quoted_name(name: str) -> str:
    """A name as SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'


def make_stand_in(stand_in: str, user: str, password: str) -> str:
    """SQL for a role that logs in with a password of its own and acts as `user` from then on."""
    name, member_of = quoted_name(stand_in), quoted_name(user)
    return f"""
        {UNSEEN}
        SELECT to_regrole({quoted_text(name)}) IS NULL AS is_new \\gset
        \\if :is_new
        CREATE ROLE {name};
        \\endif
        ALTER ROLE {name} LOGIN INHERIT;
{change_password(stand_in, password)}
        GRANT {member_of} TO {name};
        ALTER ROLE {name} SET role TO {member_of};
    """


def quoted_text(text: str) -> str:
    """A text as SQL quotes it."""
    return "'" + text.replace("'", "''") + "'"


def is_running(pod: dict | None) -> bool:
    """Whether the database's container is ready for clients."""
    statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or []
    return any(each["name"] == CONTAINER and each["ready"] for each in statuses)


def last_line(text: str) -> str:
    """What a program said last, without the place in a script."""
    lines = [line for line in text.splitlines() if line.strip()]
    error = next((line for line in lines if "ERROR:" in line or "FATAL:" in line), lines[-1] if lines else "no message")
    return error.strip()
