"""Where the images go: into a minikube, or to a registry that the cluster pulls from."""

from __future__ import annotations

import json
import os
from pathlib import Path

from builders import Builder
from commands import CommandError, ask


class ClusterError(Exception):
    """The cluster does not answer; the text says what to do."""


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
            if reference in pushed or (builder and not builder.has(reference) and builder.registry_has(reference))
        }

    def remember(self, reference: str) -> None:
        """Note that the image was pushed."""
        with self._pushed.open("a") as pushed:
            pushed.write(f"{reference}\n")


class Minikube:
    """The minikube `profile`, asked by the `program` called minikube.

    On the driver `none` this machine's own containerd is asked instead. It answers in 0.02 s where minikube takes
    0.3 s, and keeps no copy of what is loaded. Raises ClusterError when there is no such profile.
    """

    def __init__(self, program: str, profile: str) -> None:
        self._program, self._profile = program, profile
        home = Path(os.environ.get("MINIKUBE_HOME") or Path.home())
        home = home if home.name == ".minikube" else home / ".minikube"
        try:
            config = json.loads((home / "profiles" / profile / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise self._error("does not exist", error) from error
        self._is_host = config["Driver"] == "none" and config["KubernetesConfig"]["ContainerRuntime"] == "containerd"

    def _error(self, what: str, error: Exception) -> ClusterError:
        return ClusterError(
            f"minikube's profile {self._profile} {what} ({str(error).splitlines()[-1]}): start it with"
            " playbooks/cluster.yml, or name the registry of another cluster in image_registry"
        )

    def _command(self, containerd: list[str], minikube: list[str]) -> list[str]:
        if self._is_host:
            return ["ctr", "--namespace", "k8s.io", "images", *containerd]
        return [self._program, "--profile", self._profile, "image", *minikube]

    def has(self, references: list[str]) -> set[str]:
        """Those of `references` that are there. Raises ClusterError."""
        try:
            present = ask(self._command(["list", "--quiet"], ["ls", "--format=short"]), seconds=30)
        except CommandError as error:
            raise self._error("does not answer", error) from error
        return set(references) & set(present.split())

    def load(self, archive: Path) -> list[str]:
        """Load the file `archive`: the command for it."""
        return self._command(["import", str(archive)], ["load", str(archive)])
