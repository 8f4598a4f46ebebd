"""Takes the site's images out of the stores of docker, podman and buildah: remove.py NAME. Prints what was there."""

from __future__ import annotations

import sys

from builders import KINDS, Builder
from commands import ask


def main(name: str) -> None:
    """Remove the images called `name` and their bases."""
    for builder in map(Builder, KINDS):
        if builder.works() and (stored := [
            image for suffix in ("", "-postgres", "-python") for image in builder.stored(f"localhost/{name}{suffix}")
        ]):
            ask(builder.remove(stored), seconds=120, environment=builder.environment)
            print(*stored, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1])
