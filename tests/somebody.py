"""Somebody who has this project as an installed collection alone, and no checkout of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".venv" / "bin"


class Home:
    """Somebody's home, with the collection installed, and an empty folder to work in."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.environment = {"KUBECONFIG": "/nonexistent/config"} | environment
        self.home, self.folder = folder / "home", folder / "site"
        self.home.mkdir()
        self.folder.mkdir()
        self.collection = self.home / ".ansible/collections/ansible_collections/kubernetes_django/site"
        place = ["--output-path", str(folder)]
        subprocess.run([TOOLS / "ansible-galaxy", "collection", "build", *place], cwd=ROOT, check=True)
        (self.artifact,) = folder.glob("kubernetes_django-site-*.tar.gz")
        # kubernetes.core is there, in .venv: nothing is asked of a server.
        installed = self.run("ansible-galaxy", "collection", "install", "--offline", str(self.artifact))
        assert installed.returncode == 0, installed.stdout + installed.stderr

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of Ansible's programs in the folder, with no setting of this checkout's."""
        settings = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        settings |= {"HOME": str(self.home), "ANSIBLE_NOCOLOR": "1"} | self.environment
        return subprocess.run(
            [TOOLS / program, *arguments],
            cwd=self.folder,
            env=settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def play(self, *arguments: str) -> str:
        """Run ansible-playbook, which has to succeed; return what it prints."""
        run = self.run("ansible-playbook", *arguments)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    def files(self) -> dict[str, bytes]:
        """What is in the folder."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()
        }
