# GNU General Public License v3.0+ (see LICENSE)
"""Checksums of secrets that nobody can guess offline: keyed, so that a password that was tried can't be compared."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any


def keyed_checksum(value: Any, key: str) -> str:
    """HMAC-SHA256 of a value, as hexadecimal text.

    Args:
        value: what JSON can say; the order of keys does not matter.
        key: long and random, as Django's SECRET_KEY is.

    Raises:
        ValueError: there is no key.
    """
    if not key:
        raise ValueError("a checksum of secrets needs a key")
    return hmac.new(key.encode(), json.dumps(value, sort_keys=True).encode(), hashlib.sha256).hexdigest()
