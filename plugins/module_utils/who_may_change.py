# GNU General Public License v3.0+ (see LICENSE)
"""Whether programs in a folder may be run: not where another user could have put or changed them."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path


def who_may_change(folder: str) -> str:
    """Of a folder and all in it, what another user than this one, or root, could change.

    Args:
        folder: a path; it need not be there.

    Returns:
        what it is and why, such as `/srv/cache belongs to user 1000`; empty where nobody can.
    """
    for path in everything(Path(folder).expanduser().absolute()):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if found.st_uid not in (0, os.geteuid()):
            return f"{path} belongs to user {name_of(found.st_uid)}"
        if not stat.S_ISLNK(found.st_mode) and others_write(found):
            return f"{path} can be written to by other users (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""


def everything(folder: Path) -> Iterator[Path]:
    """The folders above it, by its name and by where that leads; itself; and what is in it."""
    real = folder.resolve()
    yield from dict.fromkeys([*reversed(folder.parents), folder, *reversed(real.parents), real])
    for place, folders, files in os.walk(real):
        yield from (Path(place, name) for name in [*folders, *files])


def others_write(found: os.stat_result) -> bool:
    """Whether the mode lets others write: not in a folder like /tmp, where what is mine stays mine."""
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return False
    return bool(found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not is_own_group(found.st_gid)))


def is_own_group(gid: int) -> bool:
    """Whether a group is the one that its user has alone, as on Debian, where a umask may let it write."""
    try:
        return grp.getgrgid(gid).gr_name in (pwd.getpwuid(os.geteuid()).pw_name, "root")
    except KeyError:
        return False


def name_of(uid: int) -> str:
    """A user's name, or the number of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
