"""Commands that take minutes: what they print is seen while they run."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path


def show(command: list[str | Path], environment: dict[str, str], folder: Path | None = None) -> str:
    """Run a command, showing what it prints as it comes; return it. One that fails fails the test.

    Args:
        command: and its arguments.
        environment: all of its variables.
        folder: where it runs; else where the test does.
    """
    print(f"-- {' '.join(map(os.fspath, command))}", flush=True)
    lines = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    assert process.returncode == 0, f"{command} failed, as can be read above"
    return "".join(lines)


def changed(text: str) -> int:
    """How many tasks changed something, by what a playbook printed."""
    return int(re.findall(r"changed=(\d+)", text)[-1])
