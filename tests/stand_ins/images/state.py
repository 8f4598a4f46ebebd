"""What the stand-ins beside this file share: an engine, its images and its clusters, as files below $STAND_INS.

    engine.json     what the engine and the registries say: see DEFAULTS
    store           names of the images that the engine has, one a line
    nodes/NODE      names of the images that a node has
    commands        every command line that was run

A command line that the real program would not take, or that no test is about, ends with 64: a stand-in guesses nothing.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

PLACE = Path(os.environ["STAND_INS"])
DEFAULTS: dict[str, Any] = {
    "platform": "linux/amd64",  # what the engine builds for
    "dead": False,  # whether no engine answers
    "registry": [],  # references that registries have
    "refusal": "",  # what the registry says to whoever pushes or asks
    "build": "",  # what a build says before it fails
    "full": [],  # nodes that take no image
    "root": True,  # whether containerd of k3s lets its caller in
}
STATE = DEFAULTS | json.loads((PLACE / "engine.json").read_text())


def begin() -> list[str]:
    """Note the command line, and return its arguments."""
    program = Path(sys.argv[0]).name
    with (PLACE / "commands").open("a") as commands:
        print(program, *sys.argv[1:], file=commands)
    return sys.argv[1:]


def end(code: int, text: str = "", *, errors: bool | None = None) -> NoReturn:
    """Say something, by standard error where it is a failure's, and end."""
    if text:
        print(text, file=sys.stderr if (errors if errors is not None else code) else sys.stdout)
    sys.exit(code)


def unknown(arguments: list[str]) -> NoReturn:
    """End with a command line that is not taken."""
    end(64, f"stand-in of {Path(sys.argv[0]).name}: no such command line: {arguments}")


def images(name: str) -> list[str]:
    """Names of the images in the store, or of the node, called `name`."""
    return (PLACE / name).read_text().split()


def add(name: str, references: list[str]) -> None:
    """Put images into the store or the node called `name`."""
    (PLACE / name).write_text("\n".join(dict.fromkeys([*images(name), *references])) + "\n")


def write_archive(path: str, reference: str) -> None:
    """Write what `docker save` does, as far as its names go. The real one replaces a file that is there."""
    manifest = json.dumps([{"Config": "0.json", "RepoTags": [reference], "Layers": []}]).encode()
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(manifest)
        archive.addfile(entry, BytesIO(manifest))


def read_archive(path: str) -> list[str]:
    """Names of the images in an archive."""
    with tarfile.open(path) as archive:
        return [name for image in json.load(archive.extractfile("manifest.json")) for name in image["RepoTags"]]


def nodes(prefix: str) -> list[str]:
    """Nodes whose name begins so."""
    return sorted(path.name for path in (PLACE / "nodes").glob(f"{prefix}*"))
