"""The database in its pod: SQL as the superuser over its socket, logins as anybody, and its mounted files."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass

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
        psql = ("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres")
        code, output, errors = self.run(*psql, "-p", str(self.port), "-d", self.name, "-f", "-", stdin=script)
        if code:
            raise KubeError(f"PostgreSQL in pod {self.pod}: {last_line(errors)}")
        return output

    def accepts(self, user: str, password: str) -> bool:
        """Whether this user gets in with this password.

        Raises:
            KubeError: the server did not decide that: it is not up, or has no such database.
        """
        url = shlex.join(["psql", "-X", "-h", "127.0.0.1", "-p", str(self.port), "-d", self.name, "-U", user, "-c", ""])
        # Standard input does not end here, so only a line of it is taken.
        script = f'{PASSFILE} IFS= read -r password && printf %s "$password" | use_password && {url} < /dev/null'
        code, _, errors = self.run("sh", "-c", script, stdin=f"{password}\n")
        if code and "password authentication failed" not in errors:
            raise KubeError(f"PostgreSQL in pod {self.pod}: {last_line(errors)}")
        return code == 0

    def refused(self, folders: list[str]) -> list[str]:
        """The users that do not get in with the mounted files `user` (the superuser's has none) and `password`.

        Args:
            folders: where these are.
        """
        script = f"""{PASSFILE}
            for folder; do
                user=$(cat "$folder/user" 2> /dev/null || echo postgres)
                use_password < "$folder/password"
                psql -X -h 127.0.0.1 -U "$user" -c '' > /dev/null || echo "$user"
            done
        """
        place = (f"PGPORT={self.port}", f"PGDATABASE={self.name}")
        _, output, _ = self.run("env", *place, "sh", "-c", script, "sh", *folders)
        return output.splitlines()

    def stale(self, files: dict[str, str]) -> list[str]:
        """Those of the mounted files that do not have, or not yet, this SHA-256."""
        _, output, _ = self.run("sha256sum", *files)
        found = {line[66:]: line[:64] for line in output.splitlines()}
        return [path for path, checksum in files.items() if found.get(path) != checksum]

    def sync(self, files: dict[str, str]) -> bool:
        """Wait until the mounted files have these SHA-256; return whether there was anything to wait for.

        Raises:
            KubeError: they did not within SYNC_SECONDS.
        """
        end = time.monotonic() + SYNC_SECONDS
        if not self.stale(files):
            return False
        while time.monotonic() < end:
            self.annotate(TOUCHED, str(time.time()))
            for _ in range(10):
                if not (stale := self.stale(files)):
                    return True
                time.sleep(0.3)
        raise KubeError(f"{', '.join(stale)} in pod {self.pod}: not brought up to date within {SYNC_SECONDS} s.")

    def annotate(self, name: str, value: str) -> None:
        """Put an annotation on the pod."""
        self.kube.annotate("Pod", self.pod, self.namespace, name, value)


def is_running(pod: dict | None) -> bool:
    """Whether the database's container is ready for clients."""
    statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or []
    return any(each["name"] == CONTAINER and each["ready"] for each in statuses)


def last_line(text: str) -> str:
    """What a program said last, without the place in a script."""
    lines = [line for line in text.splitlines() if line.strip()]
    error = next((line for line in lines if "ERROR:" in line or "FATAL:" in line), lines[-1] if lines else "no message")
    return error.strip()
