"""Debian's docker engine, as a user has it, in a place of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from engines.packages import DOCKER, Packages
from engines.space import DNS, Space

RUNTIME = Path(__file__).with_name("runtime.py")


class Docker:
    """The engine, running: `with Docker() as docker`.

    Attributes:
        space: where it runs, and its containers.
        environment: variables with which `docker`, and nothing else of the engine's, is found and speaks to it.
    """

    def __init__(self) -> None:
        self._packages = Packages("docker", *DOCKER)
        self.space = Space()
        self._socket = self.space.folder / "docker.sock"

    def __enter__(self) -> Docker:
        self.space.__enter__()
        try:
            self._configure()
            self.start()
        except BaseException:
            self.space.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Containers first get the time to end that they get on every machine, so that what they do in the end is seen.
        if self._daemon.poll() is None:
            self.stop()
        self.space.__exit__()

    def _configure(self) -> None:
        programs = self.space.folder / "bin"
        programs.mkdir()
        # docker alone: the engine's containerd and runc are not what anybody else should find.
        (programs / "docker").symlink_to(self._packages.root / "usr/bin/docker")
        self._runtime = wrapped_runtime(self.space.folder, self._packages)
        self.environment = {
            "DOCKER_HOST": f"unix://{self._socket}",
            "PATH": f"{programs}:{os.environ['PATH']}",
        }

    def start(self) -> None:
        """Start the engine; containers that were told to come back do."""
        command: list[str | Path] = ["dockerd"]
        command += [f"--data-root={self.space.folder / 'data'}", f"--host=unix://{self._socket}"]
        # The machine's resolver may listen on 127.0.0.1, which is another one in here.
        command += [f"--dns={DNS}"]
        command += [f"--add-runtime=reduced={self._runtime}", "--default-runtime=reduced"]
        log = (self.space.folder / "dockerd.log").open("a")
        self._daemon = subprocess.Popen(
            self.space.inside(*command),
            env=os.environ | self._packages.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        deadline = time.monotonic() + 60
        while self.run("info", check=False).returncode:
            assert self._daemon.poll() is None, f"dockerd ended: {self.log()}"
            assert time.monotonic() < deadline, f"dockerd does not answer: {self.log()}"
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop the engine as a service manager does; its containers stop with it."""
        self.space.run("sh", "-c", "kill -TERM $(cat /run/docker.pid)")
        self._daemon.wait(timeout=120)

    def log(self) -> str:
        """The end of what the engine said."""
        return "".join((self.space.folder / "dockerd.log").read_text().splitlines(keepends=True)[-30:])

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `docker` with these arguments."""
        done = subprocess.run(
            ["docker", *arguments],
            # BuildKit, as role image has it: the older way takes many times as long for a large layer.
            env=os.environ | self.environment | {"DOCKER_BUILDKIT": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"docker {arguments}: {done.stderr}"
        return done


def wrapped_runtime(folder: Path, packages: Packages) -> Path:
    """Write the program that stands for runc, see runtime.py, into a folder; return it."""
    program = folder / "runc"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {RUNTIME} {packages.root}/usr/sbin/runc "$@"\n')
    program.chmod(0o755)
    return program
