# GNU General Public License v3.0+ (see LICENSE)
"""An encrypted file of variables: random values for it, and how it is written."""

from __future__ import annotations

import os
import secrets
import string
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

# No characters that any shell, URL or YAML treats specially: people copy these by hand.
ALPHABET = string.ascii_letters + string.digits


def random_text(length: int) -> str:
    """A value that nobody guesses."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def write_encrypted(vault: Any, path: Path, text: str) -> Path:
    """Encrypt a text with this run's vault password, into a new file beside `path`; the caller gives it its name.

    Args:
        vault: Ansible's VaultLib, the loader's.
        path: the file's name in the end.
        text: what is encrypted.

    Raises:
        AnsibleError: there is no password to encrypt with.
    """
    try:
        encrypted = vault.encrypt(text)
    except AnsibleError as error:
        raise AnsibleError(
            f"{path} cannot be encrypted: {error}. Name a password source in "
            "ANSIBLE_VAULT_PASSWORD_FILE, or leave it to ansible.cfg."
        ) from error
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_bytes(encrypted)
    new.chmod(0o600)
    return new
