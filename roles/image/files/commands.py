"""Running programs: to ask something, or to do something whose output is kept."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


class CommandError(Exception):
    """A command failed; the text says what it said."""


def ask(command: list[str], *, seconds: int = 10, environment: dict[str, str] | None = None) -> str:
    """Return what `command` prints. `environment` is added to this program's own.

    Raises CommandError when it fails, or does not answer within `seconds`.
    """
    try:
        # S603: lists, no shell; the variables of whoever runs the playbook are all they hold.
        done = subprocess.run(  # noqa: S603
            command,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(str(error)) from error
    if done.returncode:
        raise CommandError((done.stderr or done.stdout).strip() or f"exit code {done.returncode}")
    return done.stdout


def perform(command: list[str], log: Path, *, seconds: int, environment: dict[str, str]) -> None:
    """Run `command`, and keep its output in the file `log`.

    Raises CommandError with the end of the output when it fails or takes longer than `seconds`.
    """
    # It may tell what others should not know: only its owner reads it. Also what was kept before.
    log.parent.mkdir(parents=True, exist_ok=True)
    log.parent.chmod(0o700)
    log.touch(mode=0o600)
    log.chmod(0o600)
    with log.open("w") as output:
        try:
            code = subprocess.run(  # noqa: S603 (as above)
                command,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            output.write(f"{error}\n")
            code = 1
    if code:
        raise CommandError("\n".join(log.read_text(errors="replace").splitlines()[-25:]))
