"""What is in an image of this node: its files, whatever layers they came in, and what its runtime is told."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from pathlib import Path

CTR = ("ctr", "--namespace", "k8s.io", "images")


def remove(*references: str) -> None:
    """Take images out of the node's store; containers that run keep what they have of them."""
    subprocess.run([*CTR, "rm", *references], check=True, capture_output=True)


def loaded() -> list[str]:
    """The names of the node's images."""
    return subprocess.run([*CTR, "list", "--quiet"], check=True, capture_output=True, text=True).stdout.split()


# Where a builder mounts files of its own while it runs a command. What it mounted on may stay, empty.
MOUNTED = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")


def without_builder(config: dict) -> dict:
    """The settings of an image, without its builder's name, Docker's mark for Windows, and with its defaults.

    Each variable of the environment is a setting of its own: their order says nothing, and differs.
    """
    labels = {name: value for name, value in (config.get("Labels") or {}).items() if not name.startswith("io.buildah.")}
    rest = {name: value for name, value in config.items() if name not in ("ArgsEscaped", "Env")}
    environment = {f"Env {name}": value for name, _, value in (line.partition("=") for line in config["Env"])}
    return rest | environment | {"Labels": labels, "WorkingDir": config.get("WorkingDir") or "/"}


class Contents:
    """An image's content.

    Attributes:
        files: path -> kind, mode, owner, group, and a file's sum or a link's target. When it was written is left out.
        settings: what the image says about how it is run, without what a builder says of itself.
    """

    def __init__(self, reference: str, folder: Path) -> None:
        archive = folder / "image.tar"
        subprocess.run([*CTR, "export", archive, reference], check=True, capture_output=True)
        self.files: dict[str, tuple] = {}
        with tarfile.open(archive) as image:

            def read(described: dict) -> dict:
                return json.load(image.extractfile("blobs/" + described["digest"].replace(":", "/")))

            (described,) = json.load(image.extractfile("index.json"))["manifests"]
            manifest = read(described)
            self.settings = without_builder(read(manifest["config"])["config"])
            for layer in manifest["layers"]:
                with tarfile.open(fileobj=image.extractfile("blobs/" + layer["digest"].replace(":", "/"))) as files:
                    self._add(files)
        archive.unlink()

    def _add(self, layer: tarfile.TarFile) -> None:
        for member in layer:
            path = Path("/", member.name)
            if str(path) in MOUNTED and member.isreg() and member.size == 0:
                continue
            if path.name.startswith(".wh."):
                gone = str(path.with_name(path.name.removeprefix(".wh.")))
                for old in [old for old in self.files if old == gone or old.startswith(f"{gone}/")]:
                    del self.files[old]
                continue
            content = member.linkname
            if member.isreg():
                content = hashlib.sha256(layer.extractfile(member).read()).hexdigest()
            elif member.islnk():
                # A second name of a file, which another builder may store as a file.
                content = self.files[str(Path("/", member.linkname))][-1]
            kind = tarfile.REGTYPE if member.islnk() else member.type
            self.files[str(path)] = (kind, oct(member.mode & 0o7777), member.uid, member.gid, content)
