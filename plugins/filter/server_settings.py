# GNU General Public License v3.0+ (see LICENSE)
"""Filters bytes_of, memory_settings and server_configuration: see plugins/module_utils/server_settings.py."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.kubernetes_django.site.plugins.module_utils.server_settings import (
    bytes_of,
    configuration,
    memory_settings,
)


class FilterModule:
    """Ansible's side of it."""

    def filters(self) -> dict[str, Callable]:
        return {"bytes_of": bytes_of, "memory_settings": memory_settings, "server_configuration": configuration}
