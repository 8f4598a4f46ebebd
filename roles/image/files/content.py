"""What an image is made of: the files of a build context, their hash, and a clean copy of them to build from.

The hash and the build see the same files, because the build gets the very copy that was hashed: a `.dockerignore` that
two programs read differently cannot make the tag lie.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any


class Ignore:
    """The rules of a `.dockerignore`, as Docker documents them.

    The last rule that matches a path, or a folder above it, decides; `!` takes a path in again.
    """

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        self._kept: list[list[str]] = []
        for line in map(str.strip, text.splitlines()):
            if not line or line.startswith("#"):
                continue
            keep, pattern = line.startswith("!"), line.removeprefix("!").strip().strip("/")
            self._rules.append((re.compile(_regex(pattern) + "(?:/.*)?", re.DOTALL), keep))
            if keep:
                self._kept.append(pattern.split("/"))

    def excludes(self, path: str) -> bool:
        """Whether the file or folder `path`, relative to the context and with `/`, stays out."""
        excluded = False
        for rule, keep in self._rules:
            if rule.fullmatch(path):
                excluded = not keep
        return excluded

    def may_keep_below(self, folder: str) -> bool:
        """Whether a rule could take in something below the excluded `folder`; if not, nobody needs to look."""
        for kept in self._kept:
            for have, pattern in zip(folder.split("/"), kept, strict=False):
                if pattern == "**":
                    return True
                if not fnmatch.fnmatchcase(have, pattern):
                    break
            else:
                return True
        return False


def _regex(pattern: str) -> str:
    result = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?)", pattern):
        result += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
    return result


def files_of(context: Path) -> list[str]:
    """Return the files and links that a build in `context` sees: paths relative to it, with `/`, sorted.

    The Dockerfile and `.dockerignore` are always among them. Raises OSError when something cannot be read.
    """
    ignore_file = context / ".dockerignore"
    ignore = Ignore(ignore_file.read_text() if ignore_file.exists() else "")
    found = {name for name in ("Dockerfile", ".dockerignore") if (context / name).exists()}

    def walk(folder: str) -> None:
        with os.scandir(context / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                excluded = ignore.excludes(path)
                if entry.is_dir(follow_symlinks=False):
                    if not excluded or ignore.may_keep_below(path):
                        walk(path)
                elif not excluded:
                    found.add(path)

    walk("")
    return sorted(found)


def digest(root: Path, files: list[str], **inputs: Any) -> str:
    """Return 12 hexadecimal digits that stand for the `files` below `root`, and for `inputs`, which must fit into JSON.

    Of a file its name, its content and whether it is a program count; its times and its owner do not.
    """
    total = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode())
    for name in files:
        path = root / name
        if path.is_symlink():
            kind, data = "link", str(path.readlink()).encode()
        else:
            kind, data = ("program" if _is_program(path) else "file"), path.read_bytes()
        total.update(f"\0{kind} {name} {len(data)}\0".encode() + data)
    return total.hexdigest()[:12]


def copy(root: Path, files: list[str], target: Path) -> None:
    """Copy the `files` below `root` to the folder `target`.

    They become readable for everyone: the umask of a checkout must not decide what the image's user can read.
    """
    for name in files:
        source, place = root / name, target / name
        for folder in reversed([folder for folder in place.parents if not folder.exists()]):
            folder.mkdir()
            folder.chmod(0o755)
        if source.is_symlink():
            place.symlink_to(source.readlink())
        else:
            shutil.copyfile(source, place)
            place.chmod(0o755 if _is_program(source) else 0o644)


def write(path: Path, text: str) -> None:
    """Write a file, for its owner alone, that nobody ever sees half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(path)


def _is_program(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IXUSR)
