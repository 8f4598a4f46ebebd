# GNU General Public License v3.0+ (see LICENSE)
"""Says in one sentence that the vault cannot be read, before Ansible says that something could not be decrypted."""

from __future__ import annotations

DOCUMENTATION = """
    name: vault
    type: aggregate
    short_description: Checks that the inventory's vault can be read
    description:
      - Ansible loads C(group_vars/all/vault.yml) by itself; where that fails, its message names neither the file nor
        what to do.
"""

from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Ansible's side of it: see DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "vault"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        for source in context.CLIARGS["inventory"] or ():
            vault = Path(source).parent / "group_vars" / "all" / "vault.yml"
            if not vault.exists():
                continue
            try:
                playbook._loader.load_from_file(str(vault))
            except AnsibleError as error:
                raise SystemExit(explain(vault, error)) from error


def explain(vault: Path, error: AnsibleError) -> str:
    """What is wrong with a vault, and what to do."""
    cause = str(error).splitlines()[0]
    if "ecrypt" in cause:
        return (
            f"{vault} cannot be decrypted: the vault password is a wrong one ({cause}) "
            "It comes from .vault-password, or from the source named by ANSIBLE_VAULT_PASSWORD_FILE or --vault-id: "
            "put the right one there. Nothing was touched."
        )
    return f"{vault} cannot be read: {cause} Mend it with: ansible-vault edit {vault}. Nothing was touched."
