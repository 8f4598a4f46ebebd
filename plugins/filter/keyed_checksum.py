# GNU General Public License v3.0+ (see LICENSE)
"""Filter keyed_checksum: a checksum of secrets that may be seen, see module_utils/keyed_checksum.py."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.kubernetes_django.site.plugins.module_utils.keyed_checksum import keyed_checksum


class FilterModule:
    """Ansible's side of it."""

    def filters(self) -> dict[str, Callable]:
        return {"keyed_checksum": keyed_checksum}
