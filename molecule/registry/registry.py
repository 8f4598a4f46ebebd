"""A real registry on this machine, with TLS by a CA of its own and a login: see tests/distribution.

As a program it takes away what is left of it: registry.py FOLDER.

Under hub/ it stands for Docker Hub, for containerd and for buildah, so that official images have their own names.
Outside its folder it needs the places where the node and the builder look for certificates and mirrors. buildah gets a
store of its own: nobody else's is to have a python that only looks official.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import distribution
import programs
from distribution import ADDRESS, PASSWORD, USER

FOLDER = programs.CACHE / "tests" / "registry-scenario"
PYTHON = "docker.io/library/python:3.13.12-slim-trixie"
POSTGRES = "docker.io/library/postgres:17.12-trixie"
NGINX = "docker.io/nginxinc/nginx-unprivileged:1.28.0-alpine3.21"
OFFICIAL = {"python": PYTHON, "postgres": POSTGRES, "nginx": NGINX}
# Where the builder and the node look for certificates and mirrors.
BUILDERS = Path("/etc/containers/certs.d", ADDRESS)
NODES = Path("/etc/containerd/certs.d", ADDRESS)
NODES_HUB = Path("/etc/containerd/certs.d/docker.io")
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MIRROR = f"""
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "{ADDRESS}/hub"
"""
STORE = f"""
[storage]
driver = "overlay"
graphroot = "{FOLDER / "store"}"
runroot = "{FOLDER / "run"}"
"""
# What buildah, and every playbook that runs it, is told.
ENVIRONMENT = {
    "CONTAINERS_REGISTRIES_CONF": str(FOLDER / "registries.conf"),
    "CONTAINERS_STORAGE_CONF": str(FOLDER / "storage.conf"),
    "REGISTRY_AUTH_FILE": str(FOLDER / "auth.json"),
    "BUILDAH_ISOLATION": "chroot",
}


def buildah(*arguments: str) -> str:
    """Run buildah; return what it prints."""
    run = ["buildah", *arguments]
    done = subprocess.run(run, env=os.environ | ENVIRONMENT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def login(password: str) -> None:
    """Give buildah this password, right or wrong: `buildah login` would not take a wrong one."""
    both = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (FOLDER / "auth.json").write_text(json.dumps({"auths": {ADDRESS: {"auth": both}}}))


def trust(place: Path) -> None:
    """Put the CA's certificate where one kind of program looks for it."""
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(FOLDER / "tls.crt", place / "ca.crt")


def ask(method: str, path: str, data: bytes | None = None, kind: str = "") -> tuple[bytes, dict[str, str]]:
    """Ask the registry itself; return what it says and the headers."""
    both = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {both}", "Accept": f"{MANIFEST}, {OCI_MANIFEST}"}
    headers |= {"Content-Type": kind} if kind else {}
    request = urllib.request.Request(f"https://{ADDRESS}/v2/{path}", data, headers, method=method)
    trusted = ssl.create_default_context(cafile=str(FOLDER / "tls.crt"))
    with urllib.request.urlopen(request, context=trusted, timeout=10) as answer:
        return answer.read(), dict(answer.headers)


def repositories() -> list[str]:
    """What was pushed."""
    return json.loads(ask("GET", "_catalog")[0])["repositories"]


def digest(reference: str) -> str:
    """The same image, by its digest."""
    repository, _, tag = reference.removeprefix(f"{ADDRESS}/").rpartition(":")
    return f"{ADDRESS}/{repository}@{ask('HEAD', f'{repository}/manifests/{tag}')[1]['Docker-Content-Digest']}"


def call(reference: str, tag: str) -> str:
    """Call an image by another tag as well, in the registry; return that name."""
    repository, _, old = reference.removeprefix(f"{ADDRESS}/").rpartition(":")
    manifest, headers = ask("GET", f"{repository}/manifests/{old}")
    ask("PUT", f"{repository}/manifests/{tag}", manifest, headers["Content-Type"])
    return f"{ADDRESS}/{repository}:{tag}"


def on_node() -> dict[str, str]:
    """Name of each image on the node -> the digest of what it stands for."""
    ctr = ["ctr", "--namespace", "k8s.io", "images", "list"]
    lines = subprocess.run(ctr, check=True, capture_output=True, text=True).stdout.splitlines()[1:]
    return {line.split()[0]: line.split()[2] for line in lines}


def is_ours(name: str) -> bool:
    """Whether an image has a name that only this registry gives."""
    return name.startswith((f"{ADDRESS}/", *(official.rpartition(":")[0] for official in OFFICIAL.values())))


def check_place() -> None:
    """Be sure that the node will ask this registry, and that nothing of somebody else's is in the way.

    Raises:
        AssertionError: it will not, or there is; with what helps.
    """
    reads = f'config_path = "{NODES.parent}"' in Path("/etc/containerd/config.toml").read_text()
    assert reads, f"the node reads no {NODES.parent}: its cluster was made before minikube's role said so. Make it anew"
    for place in (BUILDERS, NODES, NODES_HUB):
        assert not place.exists(), f"{place} is somebody else's: these tests need it"
    official = [name for name in on_node() if is_ours(name)]
    # Nor are they taken away here: a site may run on them, and would get those of the tests with its next pod.
    assert not official, (
        f"the node has {official}, which these tests would take for theirs. Take the site that runs on them away "
        f"(playbooks/reset.yml keeps its data), and then them: crictl rmi {' '.join(official)}"
    )


@contextmanager
def running() -> Iterator[None]:
    """The registry until the end of the block; it also ends when the tests are killed. The node trusts it."""
    check_place()
    FOLDER.mkdir(parents=True)
    distribution.configure(FOLDER)
    (FOLDER / "registries.conf").write_text(MIRROR)
    (FOLDER / "storage.conf").write_text(STORE)
    trust(NODES)
    trust(NODES_HUB)
    # Of its own machine containerd believes that it speaks no TLS, unless it is told of it as of a mirror.
    for place, path, override in ((NODES, "", "false"), (NODES_HUB, "/v2/hub", "true")):
        (place / "hosts.toml").write_text(
            f'[host."https://{ADDRESS}{path}"]\ncapabilities = ["pull", "resolve"]\noverride_path = {override}\n'
            f'ca = "{place / "ca.crt"}"\n'
        )
    with distribution.serving(FOLDER) as process:
        programs.wait_for_port("127.0.0.1", int(ADDRESS.rpartition(":")[2]), process, FOLDER / "registry.log")
        yield


def remove(folder: Path) -> None:
    """Take away what running() put on this machine, and all images on the node that came from there; say what."""
    if not folder.exists():
        return
    for place in (BUILDERS, NODES, NODES_HUB):
        if (place / "ca.crt").exists() and (place / "ca.crt").read_bytes() == (folder / "tls.crt").read_bytes():
            shutil.rmtree(place)
            print(place)
            if not any(place.parent.iterdir()):
                place.parent.rmdir()
    images = on_node()
    ours = {name for name in images if is_ours(name)}
    # The node's names of what nobody calls otherwise any more.
    others = {target for name, target in images.items() if name not in ours and not name.startswith("sha256:")}
    targets = {images[name] for name in ours} - others
    ours |= {name for name, target in images.items() if name.startswith("sha256:") and target in targets}
    if ours:
        subprocess.run(["ctr", "--namespace", "k8s.io", "images", "remove", *ours], check=True, capture_output=True)
        print(*sorted(ours), sep="\n")
    # A build that was killed leaves its mounts.
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", mount], check=True)
    shutil.rmtree(folder)
    print(folder)


if __name__ == "__main__":
    remove(Path(sys.argv[1]))
