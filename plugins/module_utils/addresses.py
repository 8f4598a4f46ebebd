# GNU General Public License v3.0+ (see LICENSE)
"""Addresses of this machine."""

from __future__ import annotations

import socket


def is_local(address: str) -> bool:
    """Whether an address is one of this machine's: only such can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
