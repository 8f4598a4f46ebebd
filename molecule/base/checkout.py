"""A checkout without the site's vault, as a fresh clone or a CI runner has it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from scenario import ROOT, TOOLS, WITHOUT_COLOURS


class Checkout:
    """The tests' inventory without its vault, and with a vault password of its own."""

    def __init__(self, folder: Path) -> None:
        self.inventory = folder / "inventory"
        self.variables = self.inventory / "group_vars" / "all"
        self.vault = self.variables / "vault.yml"
        self.variables.mkdir(parents=True)
        source = Path(os.environ["SITE_INVENTORY"])
        (self.inventory / "hosts.yml").symlink_to(source)
        for file in (source.parent / "group_vars" / "all").glob("*.yml"):
            if file.name != self.vault.name:
                (self.variables / file.name).symlink_to(file.resolve())
        self.password = folder / "password"
        self.password.write_text("a password of its own\n")

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook."""
        command = [TOOLS / "ansible-playbook", "-i", self.inventory / "hosts.yml", f"playbooks/{name}", *arguments]
        ours = WITHOUT_COLOURS | {"ANSIBLE_VAULT_PASSWORD_FILE": str(self.password)}
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | ours, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )


def refused(run: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that a run failed with these words, before its first change."""
    assert run.returncode != 0
    # Without its line breaks.
    said = " ".join(run.stdout.split())
    for word in (*words, "Nothing was touched"):
        assert word in said, run.stdout + run.stderr
