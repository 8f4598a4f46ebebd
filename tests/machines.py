"""Machines that tests make believe: this one, with other container engines, another user, or the tools of macOS.

Nothing of the real machine's minikube is touched: home, caches, kubeconfig and record are the test's own, processes are
in a namespace of their own, and the programs that would change a host are not on PATH.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT, Project
from macos import add_python
from macos import install as install_macos

STAND_INS = ROOT / "tests" / "stand_ins"
GIB = 1024**3
ENGINE = {"state": "runs", "cpus": 4, "memory": 8 * GIB, "rootless": False, "cgroup": "2"}
# Never the real ones: they are stand-ins, or they would change this machine.
NOT_REAL = {
    "docker",
    "podman",
    "minikube",
    "kubectl",
    "sudo",
    "apt-get",
    "apt",
    "dpkg",
    "mmdebstrap",
    "service",
    "systemctl",
}


class Machine:
    """A machine with engines and minikube, and a way to run this project on it.

    Args:
        folder: where its home, its programs and what runs on it lie.
        project: whose inventory and vault are taken.
        root: whether the user is root.
        macos: whether it has macOS' tools only, and says that it is one.
    """

    def __init__(self, folder: Path, project: Project, *, root: bool = False, macos: bool = False) -> None:
        self.folder, self.project, self.root = folder, project, root
        self.home, self.programs, self.state = folder / "home", folder / "programs", folder / "state"
        for path in (self.home, self.programs, self.state):
            path.mkdir(parents=True)
        self.kubeconfig = self.home / ".kube" / "config"
        self.settings: dict[str, str] = {}
        self.variables: dict[str, Any] = {}
        self._install(macos)
        self.world({"docker": ENGINE, "podman": ENGINE, "sudo": "free", "minikube": "well", "nodes": {}})
        self.forget_calls()
        self.remove("podman")

    def _install(self, macos: bool) -> None:
        if macos:
            install_macos(self.programs)
        else:
            for name in (p.name for p in Path("/usr/bin").iterdir() if p.name not in NOT_REAL):
                (self.programs / name).symlink_to(f"/usr/bin/{name}")
            add_python(self.programs)
        for name in ("docker", "podman", "minikube", "kubectl", "sudo"):
            self._stand_in(name, name)

    def _stand_in(self, name: str, program: str) -> None:
        (self.programs / name).symlink_to(STAND_INS / program)

    def remove(self, *names: str) -> None:
        """Take programs off its PATH."""
        for name in names:
            (self.programs / name).unlink()

    def add(self, *names: str) -> None:
        """Put stand-ins on its PATH."""
        for name in names:
            self._stand_in(name, name)

    def world(self, change: dict[str, Any]) -> None:
        """Change what runs on it."""
        file = self.state / "world.json"
        now = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(now | change))

    def engine(self, name: str, **change: Any) -> None:
        """Change an engine."""
        self.world({name: ENGINE | change})

    def nodes(self) -> dict[str, Any]:
        """The nodes that minikube has made, by profile."""
        return json.loads((self.state / "world.json").read_text())["nodes"]

    def calls(self, *program: str) -> list[list[str]]:
        """The calls of the stand-ins that begin so, in order."""
        calls = [json.loads(line) for line in (self.state / "calls.jsonl").read_text().splitlines()]
        return [call for call in calls if call[: len(program)] == list(program)]

    def forget_calls(self) -> None:
        """Begin the list anew."""
        (self.state / "calls.jsonl").write_text("")

    def environment(self) -> dict[str, str]:
        """What a shell on it has: nothing of this one's."""
        return {
            "HOME": str(self.home),
            "PATH": str(self.programs),
            "LANG": "C.UTF-8",
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(self.project.password),
            "ANSIBLE_NOCOLOR": "1",
            # By the user's name Ansible would find the home of who has this number on the real machine.
            "ANSIBLE_REMOTE_TMP": str(self.home / ".ansible" / "tmp"),
            "STAND_INS": str(self.state),
        } | self.settings

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as its user, in this checkout."""
        user = "0" if self.root else "1000"
        # Its own processes alone, and no record of the real machine's minikube.
        namespace = ["/usr/bin/unshare", "--user", f"--map-user={user}", f"--map-group={user}", "--pid", "--fork"]
        done = subprocess.run(
            [*namespace, "--kill-child", "--", *command],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )
        refused = self.state / "refused"
        assert not refused.exists(), refused.read_text() + done.stdout + done.stderr
        return done

    def play(self, playbook: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook on it."""
        variables = {"__minikube_record": str(self.folder / "record")} | self.variables
        ansible = str(ROOT / ".venv" / "bin" / "ansible-playbook")
        inventory = str(self.project.inventory / "hosts.yml")
        return self.run(ansible, "-i", inventory, playbook, "-e", json.dumps(variables))

    def succeeds(self, playbook: str, changed: bool = True) -> str:
        """Run a playbook that must succeed, and change something or nothing.

        Returns:
            what a user sees.
        """
        run = self.play(playbook)
        seen = run.stdout + run.stderr
        assert run.returncode == 0, seen
        assert ("changed=0" not in seen) == changed, seen
        return seen

    def fails(self, playbook: str) -> str:
        """Run a playbook that must fail.

        Returns:
            what a user sees, without the line breaks that Ansible puts into it.
        """
        run = self.play(playbook)
        seen = run.stdout + run.stderr
        assert run.returncode != 0, seen
        assert "Traceback" not in seen, seen
        return " ".join(seen.split())

    def refuses(self, playbook: str) -> str:
        """Run a playbook that must fail before it has changed or started anything.

        Returns:
            what a user sees, without the line breaks that Ansible puts into it.
        """
        seen = self.fails(playbook)
        assert "changed=0" in seen, seen
        assert not self.calls("minikube"), seen
        assert not (self.home / ".minikube").exists(), seen
        return seen

    def minikube(self, *arguments: str) -> None:
        """The user's own minikube command, which must succeed."""
        done = self.run(str(self.programs / "minikube"), *arguments)
        assert done.returncode == 0, done.stderr

    def contexts(self, file: Path | None = None) -> tuple[list[str], str]:
        """The names of a kubeconfig's contexts, and the current one's."""
        content = yaml.safe_load((file or self.kubeconfig).read_text())
        return [context["name"] for context in content["contexts"]], content.get("current-context", "")


@contextmanager
def registry(status: int) -> Iterator[str]:
    """A registry's first answer, on this machine.

    Args:
        status: of the answer; 401 is what registries say to who has not logged in.

    Yields:
        its address.
    """

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v2/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
