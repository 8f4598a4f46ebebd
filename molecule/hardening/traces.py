"""Where a value that nobody may see could have been left, and whether it was: as it is, or in base64.

Places are searched with grep, so that images and data directories take seconds; the values reach it in a file that only
its owner reads.
"""

from __future__ import annotations

import base64
import subprocess
import tempfile
import threading
from pathlib import Path


def forms(value: str) -> set[bytes]:
    """How a value may appear: itself, each longer line of it, and what base64 makes of them at any offset."""
    found: set[bytes] = set()
    for line in value.splitlines():
        raw = line.strip().encode()
        # A file of keys has lines that anybody may know: -----BEGIN …
        if len(raw) < 12 or raw.startswith(b"-----"):
            continue
        found.add(raw)
        for before in range(3):
            text = base64.b64encode(b"\0" * before + raw)
            # What comes before and after the value changes the characters at the ends.
            found.add(text[4 if before else 0 : -4])
    return found


class Hunt:
    """Looks for values in texts, files and processes, and remembers where one was.

    Attributes:
        found: what was where, a line each, such as `postgres-admin/password in logs of pods: postgres-0`.
        searched: kind of place -> bytes.
    """

    def __init__(self) -> None:
        self._names: dict[bytes, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.found: set[str] = set()
        self.searched: dict[str, int] = {}

    def add(self, values: dict[str, str]) -> None:
        """Look for these from now on, name -> value."""
        # A new dict: the thread may be looking at the old one.
        self._names = self._names | {form: name for name, value in values.items() for form in forms(value)}

    def __enter__(self) -> Hunt:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        """What every process of the machine was started with, and its environment, again and again."""
        while not self._ended.wait(0.2):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    command = (process / "cmdline").read_bytes()
                    seen = command + (process / "environ").read_bytes()
                except OSError:  # it has ended, or is another user's
                    continue
                self.look(f"processes: {command[:60].decode(errors='replace')}", seen)

    def look(self, place: str, content: bytes | str) -> None:
        """Look at a text; `place` is its kind, a colon and which."""
        content = content.encode() if isinstance(content, str) else content
        self.found |= {f"{name} in {place}" for form, name in self._names.items() if form in content}
        kind = place.partition(":")[0]
        self.searched[kind] = self.searched.get(kind, 0) + len(content)

    def look_into(self, kind: str, *paths: Path) -> None:
        """Look at files, and at all that is below folders."""
        with tempfile.NamedTemporaryFile() as patterns:
            patterns.write(b"\n".join(self._names))
            patterns.flush()
            grep = ["grep", "--text", "--recursive", "--with-filename", "--only-matching", "--fixed-strings"]
            run = subprocess.run([*grep, f"--file={patterns.name}", *paths], capture_output=True, check=False)
        assert run.returncode in (0, 1), run.stderr
        for hit in run.stdout.splitlines():
            path, _, form = hit.partition(b":")
            self.found.add(f"{self._names.get(form, 'a value')} in {kind}: {path.decode()}")
        files = [file for path in paths for file in [path, *path.rglob("*")] if file.is_file()]
        self.searched[kind] = self.searched.get(kind, 0) + sum(file.stat().st_size for file in files)

    def places(self, kind: str) -> list[str]:
        """What was found in places of this kind."""
        return sorted(found for found in self.found if f" in {kind}: " in found)
