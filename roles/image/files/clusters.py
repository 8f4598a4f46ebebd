"""How an image gets into the cluster: by the command of a cluster on this machine, or by a registry that it pulls from.

find() tells which, by the kubeconfig's context and by what the nodes say of themselves (see plugins/lookup/nodes.py).
Each way answers two questions: `has`, which images are there, and `load`, the command that brings an archive of one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from builders import Builder
from commands import CommandError, ask

# containerd keeps the images of Kubernetes apart from others.
LIST = ("ctr", "--namespace", "k8s.io", "images", "list", "--quiet")


class ClusterError(Exception):
    """The cluster does not answer, or takes no image; the text says what to do."""


class Registry:
    """The registry that is part of each reference.

    What was pushed is remembered in the file `pushed` in the `cache`. So an unchanged tree asks nobody.
    """

    def __init__(self, cache: Path) -> None:
        self._pushed = cache / "pushed"

    def has(self, references: list[str], builder: Builder | None = None) -> set[str]:
        """Those of `references` that are there: pushed from here or, if there is a `builder` to ask, from elsewhere."""
        pushed = self._pushed.read_text().split() if self._pushed.exists() else []
        return {
            reference
            for reference in references
            if reference in pushed or (builder and not builder.has(reference) and not builder.registry_lacks(reference))
        }

    def remember(self, reference: str) -> None:
        """Note that the image was pushed."""
        with self._pushed.open("a") as pushed:
            pushed.write(f"{reference}\n")


class Cluster:
    """A cluster that takes images by a command.

    Attributes:
        name: for people.
        hint: what to look at when it took no image.
        start: the command that lists such clusters, or starts one.
        builder: the only builder whose images it can run, where there is such a one.
    """

    name: str
    hint: str
    start: str
    builder = ""

    def _ask(self, command: list[str]) -> set[str]:
        """What a command lists. Raises ClusterError."""
        try:
            return set(ask(command, seconds=30).split())
        except CommandError as error:
            raise self.error("does not answer", error) from error

    def error(self, what: str, error: Exception) -> ClusterError:
        """A sentence with what a program said last."""
        return ClusterError(
            f"{self.name} {what} ({str(error).splitlines()[-1]}): see `{self.start}`, or name in image_registry a"
            " registry that the cluster pulls from"
        )

    def has(self, references: list[str]) -> set[str]:
        """Those of `references` that are there. Raises ClusterError."""
        raise NotImplementedError

    def load(self, archive: Path) -> list[str]:
        """The command that loads the file `archive`; none where the builder's store is the cluster's."""
        raise NotImplementedError


class Minikube(Cluster):
    """The minikube `profile`, asked by the `program` called minikube.

    On the driver `none` this machine's own containerd is asked instead. It answers in 0.02 s where minikube takes
    0.3 s, and keeps no copy of what is loaded. Raises ClusterError when there is no such profile.
    """

    hint = "Has minikube's disk room?"
    start = "minikube profile list"

    def __init__(self, program: str, profile: str) -> None:
        self.name = f"minikube's profile {profile}"
        self._program, self._profile = program, profile
        try:
            config = json.loads(profile_file(profile).read_text())
        except (OSError, ValueError) as error:
            raise self.error("does not exist", error) from error
        self._is_host = config["Driver"] == "none" and config["KubernetesConfig"]["ContainerRuntime"] == "containerd"

    def _command(self, containerd: list[str], minikube: list[str]) -> list[str]:
        if self._is_host:
            return ["ctr", "--namespace", "k8s.io", "images", *containerd]
        return [self._program, "--profile", self._profile, "image", *minikube]

    def has(self, references: list[str]) -> set[str]:
        """Those of `references` that are there. Raises ClusterError."""
        return set(references) & self._ask(self._command(["list", "--quiet"], ["ls", "--format=short"]))

    def load(self, archive: Path) -> list[str]:
        """Load the file `archive`: the command for it."""
        return self._command(["import", str(archive)], ["load", str(archive)])


class InContainers(Cluster):
    """A cluster whose nodes are containers of this machine's engine, called as the nodes are.

    Args:
        name: of the cluster, for its program.
        nodes: names of the nodes.
        images: what all of them said they have. Kubelet lists the largest 50, and some seconds late: a name that
            stands there is there, and of one that does not the nodes themselves are asked.
    """

    hint = "Do all nodes run, and have they room? The engine's `docker ps` and `docker system df` tell."

    def __init__(self, name: str, nodes: list[str], images: list[str]) -> None:
        self._name, self._nodes, self._images = name, nodes, set(images)

    def has(self, references: list[str]) -> set[str]:
        """Those of `references` that every node has. Raises ClusterError."""
        wanted = set(references)
        if wanted <= self._images:
            return wanted
        engine = os.environ.get("KIND_EXPERIMENTAL_PROVIDER") or next(
            filter(shutil.which, ("docker", "podman")), "docker"
        )
        self._images = set()  # from now on, what they were is no answer
        for node in self._nodes:
            wanted &= self._ask([engine, "exec", node, *LIST])
        return wanted


class Kind(InContainers):
    """A cluster of kind's."""

    start = "kind get clusters"

    def __init__(self, name: str, nodes: list[str], images: list[str]) -> None:
        super().__init__(name, nodes, images)
        self.name = f"kind's cluster {name}"

    def load(self, archive: Path) -> list[str]:
        """Load the file `archive` into every node."""
        return ["kind", "load", "image-archive", str(archive), "--name", self._name]


class K3d(InContainers):
    """A cluster of k3d's. Its import ends with 0 even where a node refused the image: `has` tells."""

    start = "k3d cluster list"

    def __init__(self, name: str, nodes: list[str], images: list[str]) -> None:
        super().__init__(name, nodes, images)
        self.name = f"k3d's cluster {name}"

    def load(self, archive: Path) -> list[str]:
        """Load the file `archive` into every node."""
        return ["k3d", "image", "import", str(archive), "--cluster", self._name]


class K3s(Cluster):
    """k3s, whose only node is this machine."""

    name = "the k3s on this machine"
    hint = "Does `k3s ctr images list` work, and has /var/lib/rancher room?"
    start = "k3s ctr version` as root, whose containerd it is, `systemctl status k3s"

    def has(self, references: list[str]) -> set[str]:
        """Those of `references` that are there. Raises ClusterError."""
        return set(references) & self._ask(["k3s", "ctr", "images", "list", "--quiet"])

    def load(self, archive: Path) -> list[str]:
        """Load the file `archive`."""
        return ["k3s", "ctr", "images", "import", str(archive)]


class DockerDesktop(Cluster):
    """The cluster of Docker Desktop, which runs what its engine has."""

    name = "Docker Desktop"
    hint = "Does `docker images` list it? With containerd's image store, Docker Desktop must be 4.38 or newer."
    start = "docker info"
    builder = "docker"

    def has(self, references: list[str]) -> set[str]:
        """Those of `references` that are there. Raises ClusterError."""
        return set(references) & self._ask(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"])

    def load(self, archive: Path) -> list[str]:
        """Nothing: what is built is there."""
        return []


def profile_file(profile: str) -> Path:
    """Where minikube notes what a profile is."""
    home = Path(os.environ.get("MINIKUBE_HOME") or Path.home())
    home = home if home.name == ".minikube" else home / ".minikube"
    return home / "profiles" / profile / "config.json"


def delivery(variables: dict[str, Any]) -> str:
    """Return the way into this cluster, a choice of image_delivery other than `auto`; nothing where there is none."""
    context, nodes = variables["kube_context"], variables["nodes"]
    if variables["registry"]:
        return "registry"
    if variables["delivery"] != "auto":
        return variables["delivery"]
    for kind in ("kind", "k3d"):
        if context.startswith(f"{kind}-"):
            return kind
    if context == "docker-desktop":
        return context
    if nodes.get("minikube") or profile_file(context).exists():
        return "minikube"
    return "k3s" if nodes.get("k3s") and nodes["here"] else ""


def cluster_name(way: str, context: str, nodes: list[str]) -> str:
    """Return what kind or k3d calls a cluster: its nodes tell, as a context may have been renamed."""
    named = {"kind": r"(.+)-(?:control-plane|worker)\d*", "k3d": r"k3d-(.+)-(?:server|agent)-\d+"}[way]
    found = [match[1] for node in nodes if (match := re.fullmatch(named, node))]
    return found[0] if found else context.removeprefix(f"{way}-")


def find(variables: dict[str, Any]) -> Registry | Cluster:
    """Return the way into the cluster. Raises ClusterError where there is none."""
    context, nodes = variables["kube_context"], variables["nodes"]
    way = delivery(variables)
    if way == "registry":
        return Registry(Path(variables["cache"]))
    if way == "minikube":
        return Minikube(variables["minikube"], nodes.get("minikube") or context)
    if way == "docker-desktop":
        return DockerDesktop()
    if nodes.get("error"):
        raise ClusterError(nodes["error"])
    if way and not nodes.get("count"):
        raise ClusterError(
            f"image_registry: the user of context {context} may not list the nodes, which have to take the images. Name"
            " a registry, bring your own images (django_image, image_postgres_reference), or take a context whose user"
            " may"
        )
    if way in ("kind", "k3d"):
        kind = Kind if way == "kind" else K3d
        return kind(cluster_name(way, context, nodes["names"]), nodes["names"], nodes["images"])
    if way == "k3s" and nodes["count"] == 1:
        return K3s()
    why = f"this cluster (context {context}) takes no images from this machine"
    if way == "k3s":
        why = f"this k3s has {nodes['count']} nodes, and this machine can bring an image to its own alone"
    raise ClusterError(
        f"image_registry: {why}. Name a registry that this machine can push to and the cluster can pull from, or bring"
        " your own images (django_image, image_postgres_reference). A minikube, kind, k3d, Docker Desktop, or k3s on"
        " this machine takes images without one; where its context has another name, image_delivery says which it is"
    )
