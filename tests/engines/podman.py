"""Debian's podman, as root has it, in a place of its own. It has no daemon: the program itself goes there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from engines.docker import wrapped_runtime
from engines.packages import PODMAN, Packages
from engines.space import DNS, Space

CONFIGURATION = """
[containers]
# The machine's resolver may listen on 127.0.0.1, which is another one in there.
dns_servers = ["{dns}"]
[engine]
runtime = "reduced"
# systemd does not run in there.
cgroup_manager = "cgroupfs"
events_logger = "file"
conmon_path = ["{root}/usr/bin/conmon"]
helper_binaries_dir = ["{root}/usr/lib/podman", "{root}/usr/libexec/podman"]
[engine.runtimes]
reduced = ["{runtime}"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["{root}/usr/lib/cni"]
network_config_dir = "{folder}/networks"
"""
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/data"
runroot = "/run/containers/storage"
"""
# Any image, as Debian's own policy.json says.
POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'
# minikube runs podman by sudo, which would look for it where packages are installed. Root needs no more than this.
SUDO = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
exec "$@"
"""
PROGRAM = """#!/bin/sh
exec {enter} env {variables} {root}/usr/bin/podman "$@"
"""


class Podman:
    """podman, ready to be run: `with Podman() as podman`.

    Attributes:
        space: where it runs, and its containers.
        environment: variables with which `podman`, and nothing else of it, is found.
    """

    def __init__(self) -> None:
        self._packages = Packages("podman", *PODMAN)
        self.space = Space()

    def __enter__(self) -> Podman:
        self.space.__enter__()
        try:
            self._configure()
            self.run("info")
        except BaseException:
            self.space.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.space.__exit__()

    def _configure(self) -> None:
        folder, root = self.space.folder, self._packages.root
        places = {"folder": folder, "root": root, "dns": DNS, "runtime": wrapped_runtime(folder, self._packages)}
        home = folder / "home"
        (home / ".config/containers").mkdir(parents=True)
        (home / ".config/containers/policy.json").write_text(POLICY)
        (folder / "containers.conf").write_text(CONFIGURATION.format(**places))
        (folder / "storage.conf").write_text(STORAGE.format(**places))
        variables = self._packages.environment() | {
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
            # Where the policy lies; /etc may have none, or another one.
            "HOME": str(home),
        }
        pairs = " ".join(f"{name}={value}" for name, value in variables.items())
        program = folder / "bin" / "podman"
        program.parent.mkdir()
        program.write_text(PROGRAM.format(enter=folder / "enter", variables=pairs, root=root))
        program.chmod(0o755)
        program.with_name("sudo").write_text(SUDO)
        program.with_name("sudo").chmod(0o755)
        self.environment = {"PATH": f"{program.parent}:{os.environ['PATH']}"}

    def stop(self) -> None:
        """End what runs, as the machine's end does: there is no daemon."""
        self.run("stop", "--all")

    def start(self) -> None:
        """Nothing has to run before podman does."""

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `podman` with these arguments."""
        done = subprocess.run(
            ["podman", *arguments],
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"podman {arguments}: {done.stderr}"
        return done
