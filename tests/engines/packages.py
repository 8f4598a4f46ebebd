"""Debian packages, unpacked into the cache and not installed.

An installed engine starts a daemon with rules of its own, and `image_builder: auto` of everybody on this machine would
take it from then on.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import programs

CACHE = programs.CACHE / "tests" / "engines"
# What each runs, with the libraries that a small Debian does not have; iptables is this machine's own.
DOCKER = ("docker.io", "containerd", "runc", "tini", "libdevmapper1.02.1")
PODMAN = ("podman", "conmon", "runc", "golang-github-containers-common", "golang-github-containers-image")
PODMAN += ("containernetworking-plugins", "libgpgme11", "libassuan0", "libsubid4", "libdevmapper1.02.1")
NETWORK = ("slirp4netns", "libslirp0", "tini")


class Packages:
    """Packages in a folder of their own: whatever Debian has now, by the sums in its signed lists.

    Args:
        name: of the folder; another set of packages replaces the one that was there.
        packages: their names.
    """

    def __init__(self, name: str, *packages: str) -> None:
        show = ["apt-cache", "show", "--no-all-versions", *packages]
        known = subprocess.run(show, capture_output=True, text=True, check=False)
        sums = re.findall(r"(?m)^SHA256: (\w+)$", known.stdout)
        assert len(sums) == len(packages), f"run apt-get update: {known.stderr}"
        key = hashlib.sha256(" ".join(sums).encode()).hexdigest()[:12]
        self.root = CACHE / f"{name}-{key}"
        if not self.root.exists():
            for old in CACHE.glob(f"{name}-*"):
                shutil.rmtree(old)
            self._unpack(self.root.with_suffix(".part"), packages)
        self._check()

    def _unpack(self, part: Path, packages: tuple[str, ...]) -> None:
        debs = part / "debs"
        debs.mkdir(parents=True)
        # apt-get compares each with the sum in its signed lists.
        subprocess.run(["apt-get", "download", *packages], cwd=debs, check=True, capture_output=True)
        for deb in debs.iterdir():
            subprocess.run(["dpkg", "--extract", deb, part], check=True)
        shutil.rmtree(debs)
        part.rename(self.root)

    def _check(self) -> None:
        for program in self.root.glob("usr/*bin/*"):
            linked = subprocess.run(
                ["ldd", program], env=self.environment(), capture_output=True, text=True, check=False
            )
            assert "not found" not in linked.stdout, f"{program}: {linked.stdout}"

    @property
    def path(self) -> str:
        """The folders of the programs, as PATH has them."""
        return f"{self.root}/usr/bin:{self.root}/usr/sbin"

    def environment(self) -> dict[str, str]:
        """Variables with which the programs find each other and their libraries, before the machine's own."""
        libraries = [*self.root.glob("lib/*-linux-gnu"), *self.root.glob("usr/lib/*-linux-gnu")]
        path = f"{self.path}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "LD_LIBRARY_PATH": ":".join(map(str, libraries))}
