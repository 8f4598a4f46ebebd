"""The real nginx with the very configuration that role django gives it, in front of a server of these tests."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import servers

ROOT = servers.WEBAPP.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kubernetes-django"
# What a deploy gives the role.
GIVEN = {"postgres_image": "", "storage_image": ""}


@functools.cache
def program() -> str:
    """nginx: the machine's own, or Debian's, unpacked by tests/prepare.yml."""
    unpacked = CACHE / "tests" / "nginx" / "usr" / "sbin" / "nginx"
    found = shutil.which("nginx") or (str(unpacked) if unpacked.exists() else None)
    if not found:
        raise RuntimeError("nginx is missing: run tests/prepare.yml, or apt-get install nginx")
    return found


def render(folder: Path, variables: dict[str, object]) -> Path:
    """Write nginx.conf, as the role does it for these variables, into `folder`."""
    given = {"templates": [str(ROOT / "roles/django/templates/nginx.conf.j2")], "out": str(folder)}
    run = subprocess.run(
        [
            str(ROOT / ".venv" / "bin" / "ansible-playbook"),
            # The tests' own: the user's may have a vault of theirs.
            "--inventory=molecule/inventory/hosts.yml",
            "tests/render.yml",
            f"--extra-vars={json.dumps(GIVEN | variables | given)}",
        ],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_VAULT_PASSWORD_FILE": str(ROOT / "molecule/inventory/vault-password")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise RuntimeError(run.stdout + run.stderr)
    return folder / "nginx.conf"


@dataclass
class Proxy(servers.Door):
    """nginx in front of the server at `app`; `variables` are the role's."""

    app: int
    variables: dict[str, object] = field(default_factory=dict)
    port: int = field(default_factory=servers.free_port)
    private: int = field(default_factory=servers.free_port)
    metrics: int = field(default_factory=servers.free_port)
    prefix: tuple[str, ...] = ()  # what starts it
    process: subprocess.Popen | None = None

    def __enter__(self) -> Proxy:
        self.folder = Path(tempfile.mkdtemp(prefix="webapp-tests-nginx-"))
        self.files = self.folder / "files"
        self.files.mkdir()
        self.log_path = self.folder / "log"
        ports = {"proxy": self.port, "private": self.private, "metrics": self.metrics}
        where = {f"django_{name}_port": port for name, port in ports.items()}
        where |= {"django_port": self.app, "__django_proxy_folder": str(self.files)}
        self.configuration = render(self.folder, self.variables | where)
        # Whoever it runs as may not look into the cache.
        nginx = shutil.copy(program(), self.folder)
        for path in (self.folder, self.configuration):
            path.chmod(0o755)
        # As in the pod: nobody in particular.
        user = 65534 if os.geteuid() == 0 else None
        if user:
            os.chown(self.files, user, user)
        with self.log_path.open("a") as log:
            os.fchmod(log.fileno(), 0o666)
            self.process = subprocess.Popen(
                [*self.prefix, nginx, "-e", "stderr", "-c", str(self.configuration)],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=user,
                group=user,
                extra_groups=[] if user else None,
            )
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        text = self.log_path.read_text()
        self.remove()
        raise RuntimeError(f"nginx did not start:\n{text}")

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """End it at once."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        shutil.rmtree(self.folder)

    def door(self, port: int) -> servers.Door:
        """Another of its ports."""
        door = servers.Door()
        door.port = port
        return door

    def leftovers(self) -> list[str]:
        """Files of requests and answers, as bodies and parts."""
        return [str(path) for path in self.files.rglob("*") if path.is_file() and path.name != "nginx.pid"]

    def log(self) -> list[dict]:
        """The lines about requests that the app did not hear of."""
        lines = self.log_path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def tells(self, path: str, status: int) -> bool:
        """Whether the log has a line about a request; it is written a moment after the answer."""
        for _ in range(50):
            if any((line["path"], line["status"]) == (path, status) for line in self.log()):
                return True
            time.sleep(0.1)
        return False

    def memory(self) -> int:
        """MiB that its worker holds."""
        (worker,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        status = Path(f"/proc/{worker}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) // 1024
