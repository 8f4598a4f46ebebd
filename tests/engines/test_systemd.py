"""A host with systemd on which somebody runs this project: a container of our own engine, with driver none inside.

The tests are one story and run in its order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import programs
import pytest

from engines import machines, traces
from engines.commands import changed, show
from engines.docker import Docker
from engines.user import clone

pytestmark = pytest.mark.engine
NAME, CACHE = "host", "/root/.cache/kubernetes-django"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


class Host:
    """The host, as somebody who is logged in as root."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        self._docker = docker
        image = "localhost/host:tests"
        docker.run("build", "--tag", image, machines.host())
        flags = ["--detach", "--tty", "--privileged", "--hostname", NAME, "--name", NAME]
        # Its own root of cgroups, as a machine has; and what a machine has in memory.
        flags += ["--cgroupns=private", "--security-opt=seccomp=unconfined", "--tmpfs=/run", "--tmpfs=/tmp:exec"]
        # Overlays, of which containerd and buildah make many, do not lie on an overlay.
        flags += ["--volume=var:/var", "--volume=root:/root"]
        # A company network replaces certificates for every machine in it.
        flags += [f"--volume={CERTIFICATES}:{CERTIFICATES}:ro", f"--env=PIP_CERT={CERTIFICATES}"]
        flags += [f"--volume={programs.CACHE}:/built:ro"]
        docker.run("run", *flags, image)
        clone(folder / "site")
        docker.run("cp", folder / "site", f"{NAME}:/root/site")

    def run(self, command: str) -> str:
        """Run a shell's command in the clone, showing what it prints as it comes; return it."""
        inside = ["docker", "exec", "--workdir=/root/site", NAME, "bash", "-c", command]
        return show(inside, os.environ | self._docker.environment)

    def ask(self, command: str) -> str:
        """Run a shell's command, whether it succeeds or not; return what it prints."""
        return self._docker.run("exec", NAME, "bash", "-c", command, check=False).stdout.strip()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    before = traces.look()
    with Docker() as docker:
        yield Host(docker, tmp_path_factory.mktemp("host"))
    assert traces.left() == {"processes": [], "mounts": [], "cgroups": []}
    assert traces.look() == before, "the cluster of this machine was touched"


def test_systemd_runs(host: Host) -> None:
    assert host.ask("cat /proc/1/comm") == "systemd"
    assert host.ask("systemctl is-system-running --wait") == "running"


def test_make_deploy_on_a_host_with_systemd(host: Host) -> None:
    # Nothing is compiled twice: the programs as they were built on this machine, and the packages that images are of.
    host.run(
        f"mkdir -p {CACHE}/images && cp -a /built/minikube {CACHE} && rm -rf {CACHE}/minikube/{{current,wrappers}}"
    )
    host.run(f"cp -a /built/images/*.tar {CACHE}/images/")
    assert changed(host.run("make deploy")) > 0
    page = host.ask("curl --silent --show-error --write-out %{http_code} http://127.0.0.1:30800/")
    assert page.endswith("200")
    assert "Operational" in page


def test_systemd_runs_the_services(host: Host) -> None:
    """And nothing of what stands for it elsewhere is there."""
    assert host.ask("systemctl is-active containerd kubelet").split() == ["active", "active"]
    assert host.ask(f"ls {CACHE}/minikube/wrappers") == "minikube"
    assert host.ask("ls /etc/init.d/containerd /etc/init.d/kubelet") == ""
    assert '"kubelet.service"' in host.ask("journalctl --unit kubelet --no-pager --lines 1 --output=json")


def test_second_run_changes_nothing(host: Host) -> None:
    assert changed(host.run("make deploy")) == 0


def test_make_destroy_leaves_the_host_as_it_was(host: Host) -> None:
    host.run("make destroy")
    assert host.ask("systemctl is-active containerd kubelet").split() == ["inactive", "inactive"]
    assert host.ask("ls -d /etc/kubernetes /var/lib/kubelet /etc/cni /usr/local/bin/minikube") == ""
    assert host.ask("ls /lib/systemd/system/kubelet.service /etc/systemd/system/kubelet.service.d") == ""
    assert host.ask("systemctl --failed --no-legend") == ""
    assert host.ask("ls /data/postgres-pv") != "", "the volume went along"
