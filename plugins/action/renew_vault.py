# GNU General Public License v3.0+ (see LICENSE)
"""Gives variables of a vault new random values; its other lines stay as they are, comments as well."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.vault_file import random_text, write_encrypted

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Ansible's side of it: see plugins/modules/renew_vault.py."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("path", "values"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        path, vault = Path(self._task.args["path"]), self._loader._vault
        try:
            data = path.read_bytes()
            if not data.startswith(b"$ANSIBLE_VAULT"):
                raise AnsibleError(f"{path} is not encrypted as a whole. Change its values by hand, and deploy.")
            text = vault.decrypt(data).decode()
            for name, length in self._task.args["values"].items():
                text, found = re.subn(rf"(?m)^{name}:.*$", f"{name}: {random_text(length)}", text)
                if found != 1:
                    raise AnsibleError(f"{path} has {found} lines {name}: not one. Change it by hand, and deploy.")
            if not self._task.check_mode:
                write_encrypted(vault, path, text).replace(path)
        except (OSError, AnsibleError) as error:
            return result | {"failed": True, "msg": str(error)}
        return result | {"changed": True}
