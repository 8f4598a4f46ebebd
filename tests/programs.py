"""Servers that tests run beside the project: built once from their Go modules into the cache, ended with the test."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "collections"))
from ansible_collections.kubernetes_django.site.plugins.module_utils.who_may_change import who_may_change  # noqa: E402

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kubernetes-django"


def find_go() -> str | None:
    """The machine's own Go, or the one that role minikube fetched."""
    fetched = sorted((CACHE / "minikube").glob("go-*/go/bin/go"))
    return shutil.which("go") or (str(fetched[-1]) if fetched else None)


def build(module: Path, package: str) -> Path:
    """Build a program, or find it built: other pins are another file.

    Args:
        module: folder with the go.mod and go.sum that pin it.
        package: its Go package.
    """
    pins = hashlib.sha256((module / "go.mod").read_bytes() + (module / "go.sum").read_bytes()).hexdigest()
    program = CACHE / "tests" / f"{package.rpartition('/')[2]}-{pins[:12]}"
    changeable = who_may_change(str(program))
    assert not changeable, f"{changeable}: delete it, programs of it are run"
    if not program.exists():
        go = find_go()
        assert go, "no Go on this machine: install one, or start minikube by playbooks/cluster.yml, which fetches it"
        part = program.with_suffix(f".{os.getpid()}")
        environment = os.environ | {"GOFLAGS": "", "GOWORK": "off", "CGO_ENABLED": "0"}
        command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", part, package]
        subprocess.run(command, cwd=module, env=environment, check=True)
        part.rename(program)
    return program


def share_packages(folder: Path) -> None:
    """Give a cache of role image the root file systems of Debian packages that this machine's own has: minutes each.

    Args:
        folder: the cache; the role takes what fits, by its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for tar in (CACHE / "images").glob("*.tar"):
        if not (folder / tar.name).exists():
            shutil.copy(tar, folder)


def free_port(address: str = "127.0.0.1") -> int:
    """A port of this machine where nobody listens, and that no connection gets meanwhile."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((address, random.randrange(20_000, 30_000)))
            return probe.getsockname()[1]


def wait_for_port(address: str, port: int, server: subprocess.Popen, log: Path) -> None:
    """Wait until a server listens; one that does not fails the test with its log."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
            return
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


def self_signed(folder: Path, address: str = "") -> tuple[Path, Path]:
    """Make a certificate that vouches for itself; return its file and its key's.

    Args:
        folder: for both.
        address: of the server that it is for. Without one it is good for a CA alone.
    """
    certificate, key = folder / "tls.crt", folder / "tls.key"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    make += ["-days", "2", "-subj", f"/CN={address or 'CA'}", "-keyout", key, "-out", certificate]
    if address:
        # As a name too: not every client looks for it where addresses are.
        make += ["-addext", f"subjectAltName=IP:{address},DNS:{address}"]
    subprocess.run(make, check=True, capture_output=True)
    return certificate, key


class Bucket:
    """A real S3 server on this machine, with one bucket.

    Args:
        folder: for its files and its log.
        address: of this machine, where it listens.
        tls: whether it speaks TLS, by a certificate that vouches for itself: `certificate`.
    """

    def __init__(self, folder: Path, address: str = "127.0.0.1", *, tls: bool = False) -> None:
        program = build(ROOT / "tests" / "s3", "github.com/versity/versitygw/cmd/versitygw")
        self.port = free_port(address)
        self.endpoint = f"{'https' if tls else 'http'}://{address}:{self.port}"
        # What the scripts of the backups are told, where a test runs them.
        self.variables: dict[str, str] = {}
        self.files = folder / "s3"
        (self.files / "bucket").mkdir(parents=True)
        self.log = (folder / "s3.log").open("w")
        login = ["--access", "key", "--secret", "the secret"]
        command = [program, *login, "--port", f"{address}:{self.port}"]
        if tls:
            certificate, key = self_signed(folder, address)
            self.certificate = certificate.read_text()
            command += ["--cert", certificate, "--key", key]
        command += ["posix", self.files]
        self.server = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        wait_for_port(address, self.port, self.server, folder / "s3.log")

    def stop(self) -> None:
        """End the server."""
        self.server.terminate()
        self.server.wait()
        self.log.close()
