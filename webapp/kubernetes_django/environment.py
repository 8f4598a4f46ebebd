"""Read settings from environment variables, strictly.

Every problem is collected and `finish` ends the start with one sentence for each, so that nobody mends
them one restart at a time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

TRUE, FALSE = "true", "false"


class Environment:
    """Environment variables, checked as they are read.

    Secrets may come from a file instead: `NAME_FILE` holds its path, as in the official PostgreSQL image.
    """

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self.variables = os.environ if variables is None else variables
        self.problems: list[str] = []

    def problem(self, sentence: str) -> None:
        """Note what is wrong; the value itself never appears in `sentence`, it may be a secret."""
        self.problems.append(sentence)

    def text(self, name: str, default: str | None = None, *, purpose: str = "") -> str:
        """The value of `name`. Empty counts as missing; without a `default` it is required."""
        value = self.variables.get(name, "")
        if value:
            return self._clean(name, value)
        if default is None:
            self.problem(f"{name} is not set: give it {purpose or 'a value'}.")
            return ""
        return default

    def secret(self, name: str, default: str | None = None, *, purpose: str = "a value") -> str:
        """The value of `name`, or the content of the file that `NAME_FILE` names.

        With a `default` neither the file nor something in it has to be there.
        """
        file_name = f"{name}_FILE"
        path = self.variables.get(file_name, "")
        if path and self.variables.get(name):
            self.problem(f"{name} and {file_name} are both set: keep one of them.")
            return ""
        if path:
            if default is not None and not Path(path).exists():
                return default
            try:
                value = Path(path).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
                self.problem(f"{file_name} names a file that cannot be read ({reason}): mount the secret there.")
                return ""
            if not value and default is None:
                self.problem(f"{file_name} names an empty file: put {purpose} into it.")
            return self._clean(file_name, value)
        value = self.variables.get(name, "")
        if value:
            return self._clean(name, value)
        if default is None:
            self.problem(f"{name} is not set: give {purpose} in it, or a file's path in {file_name}.")
            return ""
        return default

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """One of `choices`."""
        value = self.text(name, default)
        if value not in choices and value != default:
            self.problem(f"{name} is malformed: it must be one of {', '.join(choices)}.")
            return default
        return value

    def flag(self, name: str, default: bool) -> bool:
        """`true` or `false`, in any case."""
        value = self.text(name, TRUE if default else FALSE).lower()
        if value not in (TRUE, FALSE):
            self.problem(f"{name} is malformed: it must be true or false.")
        return value == TRUE

    def number(self, name: str, default: int, least: int, most: int, *, hint: str = "") -> int:
        """A whole number from `least` to `most`."""
        value = self.text(name, str(default))
        if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
            self.problem(f"{name} is malformed: it must be a whole number from {least} to {most}{hint}.")
            return default
        return int(value)

    def items(self, name: str, default: list[str], pattern: str, what: str) -> list[str]:
        """A comma-separated list whose every item matches `pattern`; `what` says so in words."""
        found = [item.strip() for item in self.text(name, ",".join(default)).split(",")]
        found = [item for item in found if item]
        if not all(re.fullmatch(pattern, item) for item in found):
            self.problem(f"{name} is malformed: it must be a comma-separated list of {what}.")
            return default
        return found

    def finish(self) -> None:
        """End the start when anything was wrong.

        Raises SystemExit, not an exception with a traceback: the last line of the pod's log is the cause.
        """
        if self.problems:
            raise SystemExit("\n".join(self.problems))

    def _clean(self, name: str, value: str) -> str:
        if value != value.strip():
            self.problem(
                f"{name} is malformed: it begins or ends with white space or a newline"
                " (`echo` adds one, `printf %s` does not)."
            )
        elif "\0" in value or "\n" in value or "\r" in value:
            self.problem(f"{name} is malformed: it holds more than one line.")
        return value
