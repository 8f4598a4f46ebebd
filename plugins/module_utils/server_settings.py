# GNU General Public License v3.0+ (see LICENSE)
"""PostgreSQL's settings: the values that follow from the pod's memory, and how the server's file spells them."""

from __future__ import annotations

import re
from typing import Any

# PostgreSQL's own.
DEFAULT_MAX_CONNECTIONS = 100
UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
UNITS |= {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}
# What the role sets itself, and by which variable it can be changed.
RESERVED = {
    "port": "postgres_port",
    "ssl": "postgres_tls",
    "ssl_cert_file": "postgres_tls",
    "ssl_key_file": "postgres_tls",
    "ssl_ca_file": "postgres_tls",
    "config_file": "",
    "data_directory": "",
    "hba_file": "",
    "ident_file": "",
    "listen_addresses": "",
    "unix_socket_directories": "",
}


def bytes_of(quantity: str) -> int:
    """Bytes of a Kubernetes quantity of memory, such as 512Mi.

    Raises:
        ValueError: it is not one.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", str(quantity))
    if not found or found[2] not in UNITS:
        raise ValueError(f"{quantity} is no quantity of memory, such as 512Mi or 2Gi")
    return int(float(found[1]) * UNITS[found[2]])


def memory_settings(resources: dict[str, Any], settings: dict[str, Any]) -> dict[str, str]:
    """The settings that follow from the limit of memory; none where there is no limit.

    A quarter is the server's own cache. Most of the rest is the kernel's cache, which counts against the limit as well
    but gives way. What is left for sorting has to do for many sorts at once.

    Args:
        resources: requests and limits of the pod.
        settings: what the user sets; max_connections matters.

    Raises:
        ValueError: the limit is no quantity of memory.
    """
    limit = (resources.get("limits") or {}).get("memory")
    if limit is None:
        return {}
    megabytes = bytes_of(limit) / 1024**2
    connections = int(settings.get("max_connections", DEFAULT_MAX_CONNECTIONS))
    return {
        "shared_buffers": f"{max(16, int(megabytes / 4))}MB",
        "effective_cache_size": f"{max(16, int(megabytes * 0.65))}MB",
        "work_mem": f"{max(1024, int(megabytes * 1024 / 4 / connections))}kB",
        "maintenance_work_mem": f"{min(2048, max(16, int(megabytes / 16)))}MB",
    }


def spell(value: Any) -> str:
    """A value as PostgreSQL's configuration file and command line spell it."""
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def configuration(settings: dict[str, Any]) -> str:
    """Lines of a configuration file, sorted: the same settings give the same text."""
    quoted = {name: spell(value).replace("\\", "\\\\").replace("'", "''") for name, value in settings.items()}
    return "".join(f"{name} = '{value}'\n" for name, value in sorted(quoted.items()))
