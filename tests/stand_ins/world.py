"""The machine that the stand-ins make believe: one JSON file that says what runs, and a list of what was called."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

FOLDER = Path(os.environ["STAND_INS"])
NAME = Path(sys.argv[0]).name


def load() -> dict[str, Any]:
    """What runs on this machine, by engine and profile."""
    return json.loads((FOLDER / "world.json").read_text())


def save(world: dict[str, Any]) -> None:
    """Change it, for the calls that follow."""
    (FOLDER / "world.json").write_text(json.dumps(world))


def note() -> None:
    """Add this call to the list."""
    with (FOLDER / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps([NAME, *sys.argv[1:]]) + "\n")


def leave(code: int, error: str = "") -> NoReturn:
    """End with a code and a word on the error output."""
    if error:
        print(error, file=sys.stderr)
    sys.exit(code)


def refuse() -> NoReturn:
    """Refuse arguments that nobody should have given: the test fails by what it finds in `refused`."""
    with (FOLDER / "refused").open("a") as refused:
        refused.write(f"{NAME} {' '.join(sys.argv[1:])}\n")
    leave(2, f"{NAME}: the stand-in does not know: {' '.join(sys.argv[1:])}")


def hang() -> NoReturn:
    """Wait like an engine that has stopped to answer, with a process of its own that waits as well."""
    if os.fork() == 0:
        (FOLDER / "hanging").write_text(str(os.getpid()))
    time.sleep(600)
    sys.exit(0)
