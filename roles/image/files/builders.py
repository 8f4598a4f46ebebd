"""docker, podman and buildah, as far as building and handing on an image goes."""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path

from commands import CommandError, ask

KINDS = ("docker", "podman", "buildah")


# What programs and registries say -> what to do. The first that fits counts.
REFUSALS = (
    (
        re.compile(r"x509: |certificate signed by unknown|failed to verify certificate"),
        "{kind} does not trust the certificate of {host}. Put its CA's certificate, PEM, into {place}",
    ),
    (
        re.compile(
            r"(?i)unauthorized|authentication required|no basic auth|access .*denied|denied: |forbidden|\b40[13]\b"
        ),
        "{host} wants a login, or another one, and `{kind} login {host}` gives it one; a login that is right may lack"
        " the right to do this",
    ),
    (
        re.compile(r"server gave HTTP response to HTTPS client"),
        "{host} speaks no TLS, and {kind} takes that only where its own configuration says so ({insecure})",
    ),
    (
        re.compile(r"no such host|connection refused|i/o timeout|deadline exceeded|network is unreachable|timed out"),
        "{host} does not answer: check its name and the network",
    ),
)
# Where each looks for the certificate of a registry's own CA, and for registries without TLS.
CERTIFICATES = {
    "docker": "/etc/docker/certs.d/{host}/ca.crt on the engine's machine (Docker Desktop:"
    " ~/.docker/certs.d/{host}/ca.crt, then restart it; rootless: ~/.config/docker/certs.d/{host}/ca.crt)",
    "podman": "/etc/containers/certs.d/{host}/ca.crt (without root: ~/.config/containers/certs.d/{host}/ca.crt; with a"
    " podman machine: there)",
    "buildah": "/etc/containers/certs.d/{host}/ca.crt (without root: ~/.config/containers/certs.d/{host}/ca.crt)",
}
INSECURE = {
    "docker": "insecure-registries in the engine's daemon.json",
    "podman": "insecure = true for it in registries.conf",
    "buildah": "insecure = true for it in registries.conf",
}


class Builder:
    """One of KINDS. Its methods answer a question, or return a command to run with `environment`.

    `platform` is what to build for, where that is not what the builder builds for by itself.
    """

    def __init__(self, kind: str, environment: dict[str, str] | None = None, platform: str = "") -> None:
        self.kind, self.platform = kind, platform
        self.environment = (
            environment
            or {
                "docker": {"DOCKER_BUILDKIT": "1"},  # build secrets need it
                "podman": {},
                "buildah": {"BUILDAH_ISOLATION": "chroot"},  # works in containers, and where cgroups are not to be had
            }[kind]
        )

    def _says(self, *arguments: str) -> tuple[bool, str]:
        try:
            return True, ask([self.kind, *arguments], environment=self.environment)
        except CommandError as error:
            return False, str(error)

    def works(self) -> bool:
        """Whether it is installed and, for docker, an engine answers."""
        if not shutil.which(self.kind):
            return False
        if not self._says("info")[0] and self.kind == "buildah" and os.geteuid() == 0:
            # This kernel or disk has no overlay file system. vfs is slower and works anywhere.
            self.environment["STORAGE_DRIVER"] = "vfs"
        return self._says("info")[0]

    def has(self, reference: str) -> bool:
        """Whether the image is in the builder's own store."""
        question = ("inspect", "--type", "image") if self.kind == "buildah" else ("image", "inspect")
        return self._says(*question, reference)[0]

    def registry_lacks(self, reference: str) -> str:
        """Why the image cannot be had from its registry, as the builder says it; empty where the registry has it.

        To be asked of images that the builder itself does not have: its own store would answer first.
        """
        yes, answer = self._says("manifest", "inspect", reference)
        # buildah and podman look for lists of images only, and complain when they find a single one.
        if yes or "not a list type" in answer or "single images" in answer:
            return ""
        return answer.splitlines()[-1]

    def builds_for(self) -> str:
        """The platform that it builds for by itself, such as linux/arm64; nothing where it does not say."""
        question = {
            "docker": ("version", "--format", "{{.Server.Os}}/{{.Server.Arch}}"),
            "podman": ("info", "--format", "{{.Host.OS}}/{{.Host.Arch}}"),
            "buildah": ("info", "--format", "{{.host.os}}/{{.host.arch}}"),
        }[self.kind]
        yes, answer = self._says(*question)
        return answer.strip() if yes else ""

    def explain(self, reference: str, answer: str) -> str:
        """What to do about what a registry, or the way there, said about an image; nothing where that is not known."""
        host = reference.partition("/")[0]
        names = {"kind": self.kind, "host": host, "insecure": INSECURE[self.kind]}
        names["place"] = CERTIFICATES[self.kind].format(host=host)
        return next((cure.format(**names) for words, cure in REFUSALS if words.search(answer)), "")

    def stored(self, repository: str) -> list[str]:
        """References of all images in the builder's store that are called `repository`."""
        name = "Name" if self.kind == "buildah" else "Repository"
        _, answer = self._says("images", "--format", "{{." + name + "}}:{{.Tag}}")
        return [line for line in answer.splitlines() if line.startswith(f"{repository}:")]

    def abandoned(self, repository: str) -> list[str]:
        """Containers on images called `repository` that builds left when they were killed. Only buildah leaves any."""
        if self.kind != "buildah":
            return []
        _, answer = self._says("containers", "--format", "{{.ContainerID}} {{.ImageName}}")
        containers = [line.split(maxsplit=1) for line in answer.splitlines()]
        return [name for name, image in containers if image.startswith(f"{repository}:")]

    def build(
        self, context: Path, reference: str, *, arguments: dict[str, str], secrets: dict[str, Path], epoch: int
    ) -> list[str]:
        """Build `context` as `reference`; `epoch` is the time that all files get, in seconds since 1970."""
        command = [self.kind, "build", "--tag", reference]
        if self.platform:
            command.append(f"--platform={self.platform}")
        if self.kind == "docker":
            # BuildKit hands these on to RUN and keeps them out of the image; the others do so by themselves.
            proxies = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
            command += [f"--build-arg={name}" for name in proxies if name in os.environ]
            arguments = {**arguments, "SOURCE_DATE_EPOCH": str(epoch)}
        else:
            # One layer, nothing left over, and the same bytes every time.
            command += ["--layers=false", f"--timestamp={epoch}"]
        command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
        command += [f"--secret=id={name},src={path}" for name, path in secrets.items()]
        return [*command, str(context)]

    def save(self, reference: str, archive: Path) -> list[str]:
        """Write the image to the file `archive`, which must not exist."""
        if self.kind == "buildah":
            return ["buildah", "push", reference, f"docker-archive:{archive}:{reference}"]
        return [self.kind, "save", "--output", str(archive), reference]

    def push(self, reference: str) -> list[str]:
        """Send the image to its registry."""
        return [self.kind, "push", reference]

    def remove(self, references: list[str]) -> list[str]:
        """Take images out of the builder's store."""
        return [self.kind, "rmi", *references]


def here() -> str:
    """Return this machine's platform, in the words of images: macOS says arm64 where Linux says aarch64."""
    machine = platform.machine().lower()
    names = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
    return f"linux/{names.get(machine, machine)}"


def find(wanted: str) -> Builder | None:
    """Return the first of KINDS that works; or the one called `wanted`, if it works."""
    return next((b for b in map(Builder, KINDS) if wanted in ("auto", b.kind) and b.works()), None)
