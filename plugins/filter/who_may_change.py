# GNU General Public License v3.0+ (see LICENSE)
"""Filter who_may_change: what another user could change in a folder, see module_utils/who_may_change.py."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.kubernetes_django.site.plugins.module_utils.who_may_change import who_may_change


class FilterModule:
    """Ansible's side of it."""

    def filters(self) -> dict[str, Callable]:
        return {"who_may_change": who_may_change}
