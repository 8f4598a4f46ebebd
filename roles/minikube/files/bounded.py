#!/usr/bin/env python3
"""Runs a command for at most so many seconds, on every system: macOS has no `timeout`.

Usage: bounded.py SECONDS COMMAND [ARGUMENT...]

Exits with the command's own code, with 124 when the time was up, with 127 when there is no such command. When the time
is up, the command and all that it started are ended: asked first, and killed after ten seconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

# The exit codes of `timeout` and of a shell.
TIME_IS_UP = 124
NOT_FOUND = 127
SECONDS_TO_END = 10


def end(process: subprocess.Popen[str], patience: float) -> None:
    """End a process and all of its group.

    Args:
        process: one that was started in a session of its own.
        patience: seconds between the request to end and the end by force.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        # Gone already, or by sudo another user's, whom we may not end; nobody waits for that one.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def answer(command: list[str], seconds: float) -> tuple[int, str, str]:
    """Run a command and take its answer.

    Args:
        command: the program, looked for on PATH, and its arguments.
        seconds: after which it is ended.

    Returns:
        its exit code, or TIME_IS_UP or NOT_FOUND, and what it wrote to its output and its error output.
    """
    english = os.environ | {"LANG": "C", "LC_ALL": "C"}
    try:
        process = subprocess.Popen(  # noqa: S603 (the role's own commands)
            command,
            env=english,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        return NOT_FOUND, "", f"{command[0]}: {error.strerror}"
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(process, 1)
        return TIME_IS_UP, "", f"no answer within {seconds:g} seconds"
    return process.returncode, out, err


def main(seconds: float, command: list[str]) -> int:
    """Run a command whose output goes where this program's goes.

    Returns:
        the exit code.
    """
    # Whoever ends this program ends the command as well.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))
    try:
        process = subprocess.Popen(command, text=True, start_new_session=True)  # noqa: S603 (the role's own commands)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return TIME_IS_UP
    finally:
        if process.poll() is None:
            end(process, SECONDS_TO_END)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
