# GNU General Public License v3.0+ (see LICENSE)
"""Filter docker_config: logins to registries as docker's config.json has them, which kubelet reads as well."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.kubernetes_django.site.plugins.module_utils.docker_config import docker_config


class FilterModule:
    """Ansible's side of it."""

    def filters(self) -> dict[str, Callable]:
        return {"docker_config": docker_config}
