"""Somebody with an empty home, a clone of this project and a container engine, for whom minikube's drivers are made."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import urllib.request
from pathlib import Path

import programs

from engines import machines
from engines.commands import show
from engines.docker import Docker
from engines.podman import Podman

ROOT = programs.ROOT
# What role minikube built for the driver none; it needs no building twice.
BUILT = programs.CACHE / "minikube" / "current"
BASE_IMAGE = "localhost/kicbase:tests"
NODE_PORT = 30858
VARIABLES = "group_vars/all/"
# Nothing of whoever runs the tests.
FOREIGN = re.compile(r"^(ANSIBLE|MOLECULE|SITE|MINIKUBE|KUBECONFIG|XDG|DOCKER|CONTAINER)")

# Prints what there is of a cluster of driver none, and of the record by which destroy knows one.
OUT_OF_REACH = """
find /data /etc/kubernetes /var/lib/kubernetes-django /var/lib/minikube /run/containerd -mindepth 1 2>/dev/null
grep -lx kubelet /proc/[0-9]*/comm
true
"""


class User:
    """The user.

    Args:
        folder: for the home and the clone.
        engine: that runs; it is the attribute `engine`.
        driver: of minikube.
    """

    def __init__(self, folder: Path, engine: Docker | Podman, driver: str) -> None:
        self.engine = engine
        self.home, self.clone = folder / "home", folder / "clone"
        self.profile = f"tests-{driver}"
        assert (BUILT / "images.tar").exists(), "start minikube by playbooks/cluster.yml: it builds what is needed here"
        self.environment = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        self.environment |= {"ANSIBLE_NOCOLOR": "1", "PYTHONUNBUFFERED": "1", "HOME": str(self.home)}
        self.environment |= {name: value for name, value in engine.environment.items() if name != "PATH"}
        self.environment["PATH"] = f"{self.home}/bin:{engine.environment['PATH']}"
        clone(self.clone)
        self._link_tools()
        self._check_that_it_is_alone()
        self._install()
        self._fetch(engine)
        self._set(driver)

    def _link_tools(self) -> None:
        """Have .venv there, as `make` made it a minute ago."""
        (self.clone / ".venv").symlink_to(ROOT / ".venv")
        for name in ("requirements.txt", "scripts/check-host"):
            # make compares times alone.
            os.utime(self.clone / name, (0, 0))

    def _check_that_it_is_alone(self) -> None:
        """Be sure, before anything is run, that no command of this user's reaches the machine's own cluster."""
        reached = self.engine.space.run("sh", "-c", OUT_OF_REACH)
        assert reached == "", f"the user would reach what is this machine's: {reached}"

    def _install(self) -> None:
        """Put minikube and kubectl where a user has them."""
        (self.home / "bin").mkdir(parents=True)
        for name in ("minikube", "kubectl"):
            (self.home / "bin" / name).symlink_to((BUILT / "bin" / name).resolve())

    def _fetch(self, engine: Docker | Podman) -> None:
        """Give minikube what it fetches where registries answer: its base image, Kubernetes' programs and images."""
        base = machines.kicbase((BUILT / "bin" / "crictl").resolve())
        print("-- Loading minikube's base image", flush=True)
        engine.run("build", "--tag", BASE_IMAGE, base)
        cache = self.home / ".minikube" / "cache"
        arch = subprocess.run(
            ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
        ).stdout.strip()
        binaries = cache / "linux" / arch / kubernetes()
        binaries.mkdir(parents=True)
        for name in ("kubelet", "kubeadm", "kubectl"):
            shutil.copy(BUILT / "bin" / name, binaries)
        split(BUILT / "images.tar", cache / "images" / arch)
        programs.share_packages(self.home / ".cache" / "kubernetes-django" / "images")

    def _set(self, driver: str) -> None:
        """Write what a user sets, beside what is there."""
        arguments = ["--container-runtime=containerd", f"--kubernetes-version={kubernetes()}"]
        # In place of what a registry would give.
        arguments += [f"--base-image={BASE_IMAGE}", "--cni=bridge", "--preload=false"]
        # kubeadm refuses cgroup v1.
        arguments += ["--extra-config=kubeadm.ignore-preflight-errors=SystemVerification"]
        variables = {
            "minikube_driver": driver,
            "cluster_context": self.profile,
            "minikube_start_args": arguments,
            "django_node_port": NODE_PORT,
            "django_environment": {"DJANGO_NOTES_WRITABLE": "true"},
        }
        # JSON is YAML.
        (self.clone / "group_vars" / "all" / "mine.yml").write_text(json.dumps(variables, indent=2))

    def run(self, *command: str | Path) -> str:
        """Run a command in the clone, showing what it prints as it comes; return it."""
        return show(self.engine.space.inside(*command), self.environment, self.clone)

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl on this user's cluster; return what it prints."""
        command = self.engine.space.inside("kubectl", "--context", self.profile, *arguments)
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout


def clone(target: Path) -> None:
    """Copy what git would clone of this project, changes that are not committed included.

    What this checkout's user has set is not of the project, committed or not: the vault, whose password is not in the
    clone, and all that stands beside it. The clone has what a new user has.

    Args:
        target: the clone's folder.

    Raises:
        subprocess.CalledProcessError: this is no checkout of git's.
    """
    tracked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(tracked, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if name.startswith(VARIABLES):
            continue
        if (ROOT / name).is_symlink() or (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    (target / VARIABLES).mkdir(parents=True)
    shutil.copy(ROOT / "molecule" / "inventory" / VARIABLES / "main.yml", target / VARIABLES)


def kubernetes() -> str:
    """The version that role minikube builds, such as v1.35.1."""
    pins = (ROOT / "roles" / "minikube" / "files" / "kubernetes" / "go.mod").read_text()
    return re.search(r"k8s.io/kubernetes (v\S+)", pins)[1]


def split(archive: Path, folder: Path) -> None:
    """Write each image of an OCI archive to an archive of its own, called as minikube calls it in its cache.

    Args:
        archive: with several images, as role minikube makes it.
        folder: for the archives.
    """
    with tarfile.open(archive) as images:

        def read(name: str) -> bytes:
            return images.extractfile(members[name.removeprefix("./")]).read()

        def blob(described: dict) -> str:
            return "blobs/" + described["digest"].replace(":", "/")

        members = {member.name.removeprefix("./"): member for member in images}
        for image in json.loads(read("index.json"))["manifests"]:
            manifest = json.loads(read(blob(image)))
            files = {name: read(name) for name in map(blob, [image, manifest["config"], *manifest["layers"]])}
            files["oci-layout"] = read("oci-layout")
            files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [image]}).encode()
            reference = image["annotations"]["org.opencontainers.image.ref.name"]
            target = folder / reference.replace(":", "_")
            target.parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(target, "w") as single:
                for name, content in files.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    single.addfile(member, io.BytesIO(content))


def fetch(url: str) -> tuple[int, dict]:
    """GET a URL that answers with JSON; return its status and what it says."""
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, json.loads(answer.read())
