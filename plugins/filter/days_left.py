# GNU General Public License v3.0+ (see LICENSE)
"""Filter days_left: for how many days a certificate, PEM, is good."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.kubernetes_django.site.plugins.module_utils import certificates


class FilterModule:
    """Ansible's side of it."""

    def filters(self) -> dict[str, Callable]:
        return {"days_left": lambda certificate: round(certificates.days_left(certificate))}
