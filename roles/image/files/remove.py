"""Takes the site's images out of the stores of docker, podman and buildah, and prints what was there.

remove.py REGISTRY NAME, where REGISTRY is the first part of the references: `localhost` without a registry.
"""

from __future__ import annotations

import sys

from builders import KINDS, Builder
from commands import ask


def main(registry: str, name: str) -> None:
    """Remove the images called `name` and their bases."""
    for builder in map(Builder, KINDS):
        if not builder.works():
            continue
        repositories = {f"{registry}/{name}{part}" for part in ("", "-postgres", "-nginx")} | {
            f"localhost/{name}-python"
        }
        if stored := [image for repository in repositories for image in builder.stored(repository)]:
            ask(builder.remove(stored), seconds=120, environment=builder.environment)
            print(*stored, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
