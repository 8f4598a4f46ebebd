"""A PATH with what a Mac has, and nothing else: its own kinds of sed, stat, find and the like, by stand_ins/bsd.py."""

from __future__ import annotations

import sys
from pathlib import Path

# What a fresh macOS has of what a script may want, and what its installers and brew add here.
SAME = (
    "awk basename base64 bash cat chmod cmp comm cut dirname du echo env expand expr false gzip hostname id kill ls"
    " make mkdir mv nl od paste perl printf ps pwd rm rmdir sh sleep sort split ssh tar tee test tr true tty uniq wc"
    " which"
)
BSD = "cp date df find grep head ln mktemp readlink sed stat tail touch uname xargs"


def install(programs: Path) -> None:
    """Put these tools into a folder, which there is."""
    for name in SAME.split():
        (programs / name).symlink_to(f"/usr/bin/{name}")
    for name in BSD.split():
        (programs / name).symlink_to(Path(__file__).parent / "stand_ins" / "bsd.py")
    add_python(programs)


def add_python(programs: Path) -> None:
    """Put the tests' python3 into a folder. It finds its packages by its own path, so it is no link."""
    python = programs / "python3"
    python.unlink(missing_ok=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
