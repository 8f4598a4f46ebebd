"""Variants of the web app's image, in the cluster: what a release brings, made in seconds from the image that is there.

    reference = make("additive", {"notes/migrations/0005_more.py": "…"})

Built and loaded by the programs of role image. A file's path is relative to webapp/, which is /app in the image.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scenario import ROOT, items

sys.path.insert(0, str(ROOT / "roles" / "image" / "files"))

import builders
import clusters

# The modules are compiled without time stamps, as the Dockerfile does it: a changed one would not be noticed.
CONTAINERFILE = """
FROM {base}
COPY webapp /app
USER 0
RUN find /app -name '*.pyc' -delete && python -m compileall -q --invalidation-mode unchecked-hash /app
USER 10001:10001
"""


def base() -> str:
    """The image that the site runs."""
    return items("deployments", "-l", "app.kubernetes.io/component=web")[0]["spec"]["template"]["spec"]["containers"][
        0
    ]["image"]


def make(name: str, files: dict[str, str], origin: str, lines: str = "") -> str:
    """Build a variant of the image `origin`, load it into the cluster, return its reference.

    Args:
        name: the beginning of its tag.
        files: path -> content, added or replaced.
        origin: the image it starts from.
        lines: more of the Containerfile.
    """
    text = CONTAINERFILE.format(base=origin) + lines
    digest = hashlib.sha256(repr((text, sorted(files.items()))).encode()).hexdigest()[:10]
    repository = f"{origin.rpartition(':')[0]}-variant"
    reference = f"{repository}:{name}-{digest}"
    cluster = clusters.Minikube("minikube", os.environ["SITE_CONTEXT"])
    if cluster.has([reference]):
        return reference
    builder = builders.find("auto")
    assert builder, "no program to build images with"
    # Not from the builder's own store: whoever builds another version takes this one away there.
    start = f"{repository}:start-{origin.rpartition(':')[2]}"
    with tempfile.TemporaryDirectory() as folder:
        context, archive = Path(folder, "context"), Path(folder, "image.tar")
        write_context(context, files, text.replace(origin, start))
        for command in (
            *([] if builder.has(start) else fetch(cluster, builder, origin, start, Path(folder, "start.tar"))),
            builder.build(context, reference, arguments={}, secrets={}, epoch=0),
            builder.save(reference, archive),
            cluster.load(archive),
            builder.remove([reference]),
        ):
            environment = os.environ | builder.environment
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return reference


def write_context(context: Path, files: dict[str, str], containerfile: str) -> None:
    """The folder that an image is built from."""
    (context / "webapp").mkdir(parents=True)
    for path, content in files.items():
        target = context / "webapp" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    (context / "Dockerfile").write_text(containerfile)


def fetch(
    cluster: clusters.Minikube, builder: builders.Builder, origin: str, name: str, archive: Path
) -> list[list[str]]:
    """The commands that bring an image of the cluster into the builder's store, under this name."""
    return [
        cluster._command(["export", str(archive), origin], ["save", origin, str(archive)]),
        [builder.kind, "pull", "--quiet", f"docker-archive:{archive}"],
        [builder.kind, "tag", origin, name],
    ]
