# GNU General Public License v3.0+ (see LICENSE)
"""What preflight has to know of nginx in the web pods: whether its options fit together."""

from __future__ import annotations

import re
from typing import Any

PATH = re.compile(r"/[A-Za-z0-9._~/-]*")


def check_proxy(values: dict[str, Any]) -> list[str]:
    """What is wrong with the options of role django that are about nginx.

    Args:
        values: the options of all roles that are checked, of the types that the argument specs say.
    """
    if not values.get("django_proxy"):
        return []
    findings = check_ports(values) + check_paths(values) + check_volume_sources(values)
    if values["django_proxy_header_kilobytes"] % 8:
        findings.append(
            f"django_proxy_header_kilobytes: {values['django_proxy_header_kilobytes']} is no multiple of 8. Set one."
        )
    if "DJANGO_TRUSTED_PROXIES" in values["django_environment"]:
        findings.append(
            "django_environment: DJANGO_TRUSTED_PROXIES has no effect behind nginx, which hands on the client's "
            "address alone. Set django_trusted_proxies to this number, and take it out here."
        )
    return findings


def check_ports(values: dict[str, Any]) -> list[str]:
    """One pod, one network: each port in it is one program's."""
    names = ["django_port", "django_proxy_port", "django_private_port"]
    names += ["django_metrics_port"] if values["django_metrics_path"] else []
    ports = [values[name] for name in names]
    return [
        f"{name}: {port} is also {names[ports.index(port)]}. Set another port."
        for number, (name, port) in enumerate(zip(names, ports, strict=True))
        if ports.index(port) < number
    ]


def check_paths(values: dict[str, Any]) -> list[str]:
    """Paths as they stand in a URL, without what means something else to nginx."""
    given = {name: values[name] for name in ("django_private_paths", "django_login_paths")}
    given["django_metrics_path"] = [values["django_metrics_path"]] if values["django_metrics_path"] else []
    return [
        f"{name}: {path!r} is no path. It begins with / and has letters, digits and . _ ~ - / in it, such as /admin."
        for name, paths in given.items()
        for path in paths
        if not PATH.fullmatch(path)
    ]


def check_volume_sources(values: dict[str, Any]) -> list[str]:
    """A volume has one kind, and no name: the role gives it one."""
    return [
        f"{name}: {values[name]} is not one kind of volume, such as {{emptyDir: {{sizeLimit: 1Gi}}}}, and no hostPath."
        for name in ("django_proxy_buffer", "django_tmp")
        if len(values[name]) != 1 or set(values[name]) & {"name", "hostPath"}
    ]
