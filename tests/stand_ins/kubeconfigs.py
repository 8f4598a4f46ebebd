"""KUBECONFIG as kubectl reads it: a list of files, of which the first that says something is believed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

FILES = [Path(name) for name in os.environ.get("KUBECONFIG", "").split(":") if name] or [
    Path.home() / ".kube" / "config"
]


def read(file: Path) -> dict[str, Any]:
    """One file, or an empty one."""
    return (yaml.safe_load(file.read_text()) if file.is_file() else None) or {"contexts": [], "current-context": ""}


def write(file: Path, content: dict[str, Any]) -> None:
    """Write one as Kubernetes' own programs do, and its folder: what is empty stands between double quotes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    contexts = yaml.safe_dump({"contexts": content["contexts"]})
    file.write_text(f"{contexts}current-context: {content.get('current-context') or json.dumps('')}\n")


def contexts() -> list[str]:
    """The contexts of all files."""
    return [context["name"] for file in FILES for context in read(file)["contexts"]]


def use(name: str) -> None:
    """Make a context the current one: in the first file that has one, else in the first."""
    file = next((file for file in FILES if read(file).get("current-context")), FILES[0])
    write(file, read(file) | {"current-context": name})
