"""Carries out one step of a plan, which comes as JSON by standard input.

    step.py base python|postgres|nginx       makes a base image from Debian packages
    step.py build django                     builds the web app's image
    step.py deliver django|postgres|nginx    loads an image into the cluster, or pushes it to the registry

Every step does nothing when its result is there, waits while another run builds, and may be ended at any moment.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import clusters
import content
from builders import Builder
from clusters import ClusterError, Registry
from commands import CommandError, ask, perform

# The Dockerfile takes it from there as well.
sys.path.insert(0, str(Path(__file__).resolve().parent / "bases"))

import sbom

# The longest step takes half a minute on two cores; slow mirrors take their time.
STEP_SECONDS = 1800


class StepError(Exception):
    """A step failed; the text says why, and what to do."""


class Step:
    """The steps, named as the module says."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.variables: dict[str, Any] = plan["variables"]
        self.references: dict[str, str] = plan["references"]
        self.root_file_systems: dict[str, dict[str, str]] = plan["root_file_systems"]
        self.builder = Builder(**plan["builder"])
        self.cache = Path(self.variables["cache"])
        self.source: str = plan["source"]
        content.write(self.cache / "source", self.source)

    def base(self, name: str) -> None:
        """Make the base image `name`."""
        reference, made = self.references[name], self.root_file_systems[name]
        if self.builder.has(reference):
            return
        source, tar = Path(made["context"]), self.cache / made["file"]
        if not tar.exists():
            for old in self.cache.glob(f"{name}-{made['version']}-*.tar*"):
                old.unlink()
            self.run(
                f"packages-{name}",
                [str(source / "rootfs.sh"), str(tar), made["version"]],
                "The packages come from the mirror of this host's apt, or from image_debian_mirror.",
                DEBIAN_MIRROR=self.variables["debian_mirror"],
                DEBIAN_SECURITY_MIRROR=self.variables["debian_security_mirror"],
            )
        with self.folder() as context:
            content.copy(source, content.files_of(source), context)
            (context / "rootfs.tar").hardlink_to(tar)
            (context / "sbom.json").write_text(bill_of(name, made["version"], tar))
            self.run(
                f"build-{name}",
                self.builder.build(
                    context,
                    reference,
                    arguments={"VERSION": made["version"]},
                    secrets={},
                    epoch=epoch(source),
                ),
                "image_builder chooses another program to build with.",
            )
        self.forget_older(reference)

    def build(self, name: str) -> None:
        """Build the web app's image."""
        reference, source = self.references[name], Path(self.variables["context"])
        if self.builder.has(reference):
            return
        if self.source == "debian":
            self.base("python")  # another run may have taken it away since the step before this one
        if left := self.builder.abandoned(self.references["python"].rpartition(":")[0]):
            self.run("clear", ["buildah", "rm", *left], "See `buildah containers`.")
        with self.folder() as context, self.folder() as private:
            content.copy(source, content.files_of(source), context)
            arguments = {key: str(value) for key, value in self.variables["build_args"].items()}
            arguments |= {
                "PYTHON_IMAGE": self.references["python"],
                "VERSION": reference.rpartition(":")[2],
                "REVISION": revision(source),
            }
            self.run(
                f"build-{name}",
                self.builder.build(
                    context,
                    reference,
                    arguments=arguments,
                    secrets=pip_secrets(private),
                    epoch=epoch(source),
                ),
                self.explain_build,
            )
        self.forget_older(reference)

    def deliver(self, name: str) -> None:
        """Bring the image to where the cluster finds it. A tag that is there is never sent again."""
        reference, cluster = self.references[name], clusters.find(self.variables)
        if isinstance(cluster, Registry):
            self.run(f"push-{name}", self.builder.push(reference), partial(self.explain_push, reference))
            cluster.remember(reference)
            return
        if cluster.has([reference]):
            return
        with self.folder() as folder:
            archive = folder / "image.tar"
            if command := cluster.load(archive):
                self.run(f"save-{name}", self.builder.save(reference, archive), "Is there room in image_cache?")
                self.run(f"load-{name}", command, cluster.hint)
        if not cluster.has([reference]):
            raise StepError(f"{cluster.name} took {reference} without complaint, but does not have it. {cluster.hint}")

    def run(self, name: str, command: list[str], hint: str | Callable[[str], str], **environment: str) -> None:
        """Run `command`, its output in logs/`name`.log.

        Raises StepError with the output's end and `hint`, which may depend on that.
        """
        log = self.cache / "logs" / f"{name}.log"
        try:
            perform(command, log, seconds=STEP_SECONDS, environment=self.builder.environment | environment)
        except CommandError as error:
            said = str(error)
            cure = hint if isinstance(hint, str) else hint(said)
            raise StepError(f"{said}\n\n{name} failed, its whole output is in {log}.\n{cure}") from error

    def explain_build(self, said: str) -> str:
        """What to look at where the web app's image was not built."""
        platform = self.builder.platform
        if platform and "exec format error" in said.lower():
            return (
                f"image_platform: this machine cannot run programs for {platform}, as a build for it does. Install what"
                " emulates them (on Debian `apt-get install qemu-user-static`; Docker Desktop has it), or build on such"
                " a machine and bring the image (django_image)."
            )
        return (
            f"It was built in {self.variables['context']} (image_context) on {self.references['python']} (image_source,"
            " image_base_python), with this machine's pip settings (pip config list)."
        )

    def explain_push(self, reference: str, said: str) -> str:
        """What to do where an image was not pushed."""
        cure = self.builder.explain(reference, said) or f"Does `{' '.join(self.builder.push(reference))}` work?"
        return f"image_registry: {reference} was not pushed. {cure}"

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield a folder in the cache that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="work-", dir=self.cache) as name:
            yield Path(name)

    def forget_older(self, reference: str) -> None:
        """Take the images that `reference` replaces out of the builder's store; the cluster keeps its own."""
        if clusters.delivery(self.variables) == "docker-desktop":
            return  # there it has no other
        same_version = reference.rpartition("-")[0] + "-"
        older = [
            image
            for image in self.builder.stored(reference.rpartition(":")[0])
            if image.startswith(same_version) and image != reference
        ]
        if older:
            with contextlib.suppress(CommandError):  # in use: the next build tries again
                ask(self.builder.remove(older), seconds=60, environment=self.builder.environment)


def git(folder: Path, *arguments: str) -> str:
    """Return what git says in `folder`; nothing where it says nothing."""
    with contextlib.suppress(CommandError):
        return ask(["git", "-C", str(folder), *arguments]).strip()
    return ""


def revision(context: Path) -> str:
    """Return the commit that is built, with `-dirty` where files of the image were changed since."""
    commit = git(context, "rev-parse", "HEAD")
    changed = commit and git(context, "status", "--porcelain", "--", *content.files_of(context))
    return f"{commit}-dirty" if changed else commit


def epoch(context: Path) -> int:
    """Return the commit's time, in seconds since 1970: with it, building the same commit again gives the same bytes."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or git(context, "log", "-1", "--format=%ct") or 0)


def bill_of(name: str, version: str, root_file_system: Path) -> str:
    """Return the bill of materials of a base image, made of the packages in the tar `root_file_system`."""
    with tarfile.open(root_file_system) as archive:
        names = (member for member in archive if member.name.removeprefix("./") == "var/lib/dpkg/status")
        status = archive.extractfile(next(names)).read().decode()
    return sbom.bill(name, version, sbom.debian(status))


def pip_secrets(folder: Path) -> dict[str, Path]:
    """Return build secrets with this machine's certificates and pip settings; files are made in `folder`."""
    secrets = {}
    bundles = [os.environ.get(name, "") for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")]
    bundles += ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"]
    if bundle := next((path for path in bundles if path and Path(path).is_file()), None):
        secrets["ca.pem"] = Path(bundle)
    answer = ""
    for pip in ([sys.executable, "-m", "pip"], ["pip3"]):
        with contextlib.suppress(CommandError):
            answer = ask([*pip, "config", "list"], seconds=30)
            break
    settings: dict[str, str] = {}
    # Lines such as global.index-url='https://…'; those from the environment come first, and count before the others.
    for key, value in re.findall(r"(?m)^(?::env:|\w+)\.([\w-]+)=(.*)$", answer):
        if key in ("extra-index-url", "index-url", "proxy", "retries", "timeout", "trusted-host"):
            settings.setdefault(key, ast.literal_eval(value))
    if settings:
        secrets["pip.conf"] = folder / "pip.conf"
        lines = (f"{key} = " + "\n  ".join(value.split()) for key, value in settings.items())
        content.write(secrets["pip.conf"], "\n".join(["[global]", *lines, ""]))
    return secrets


@contextlib.contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Wait until no other run builds, and clear what a killed one left."""
    # Not in the cache: runs with different caches share the builder's store.
    place = Path.home() / ".cache" / "kubernetes-django" / "images.lock"
    for folder in (place.parent, cache):
        folder.mkdir(parents=True, exist_ok=True)
    with place.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for remains in cache.glob("work-*"):
            shutil.rmtree(remains, ignore_errors=True)
        yield


def main() -> int:
    """Do as the module says."""
    verb, name = sys.argv[1:]
    plan = json.load(sys.stdin)
    try:
        with alone(Path(plan["variables"]["cache"])):
            {"base": Step.base, "build": Step.build, "deliver": Step.deliver}[verb](Step(plan), name)
    except (StepError, ClusterError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
