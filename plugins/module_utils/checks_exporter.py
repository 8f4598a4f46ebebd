# GNU General Public License v3.0+ (see LICENSE)
"""What preflight asks about the exporter of metrics."""

from __future__ import annotations

import re
from typing import Any

NAME = "secrets_postgres_exporter_password"


def check_exporter(values: dict[str, Any]) -> list[str]:
    """It has a login of its own, which vaults that are older than it lack.

    It breaks on a password with quotes, and then shows that password in its log.
    """
    if not values.get("postgres_exporter"):
        return []
    if not values.get(NAME):
        return [
            f"{NAME}: is not set, and postgres_exporter needs it. Add vault_postgres_exporter_password to the vault: "
            "ansible-vault edit group_vars/all/vault.yml"
        ]
    if not re.fullmatch(r"[A-Za-z0-9._~-]+", values[NAME]):
        return [f"{NAME}: postgres_exporter takes no other characters than letters, digits, and . _ ~ - in it."]
    return []
