"""Makes a vault of random values, encrypted with the password of this run; a vault that is there is left alone.

Arguments:
    path: the file.
    header: comment at its top.
    values: name of each variable to the number of random characters it gets.

In a plugin, not in a shell: the values go through no other process, and whatever password source the run uses is the
one that encrypts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.vault_file import random_text, write_encrypted

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Ansible's side of it: see the module's docstring."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("path", "header", "values"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        path = Path(self._task.args["path"])
        if path.exists() or self._task.check_mode:
            return result | {"changed": not path.exists()}
        lines = [f"# {line}" for line in self._task.args["header"].splitlines()]
        lines += [f"{name}: {random_text(length)}" for name, length in self._task.args["values"].items()]
        # Under another name first, linked where nothing is: no half of a vault, and no other run's vault is replaced.
        try:
            new = write_encrypted(self._loader._vault, path, "---\n" + "\n".join(lines) + "\n")
        except AnsibleError as error:
            return result | {"failed": True, "msg": str(error)}
        try:
            os.link(new, path)
        except FileExistsError:
            pass
        finally:
            new.unlink()
        return result | {"changed": True}
