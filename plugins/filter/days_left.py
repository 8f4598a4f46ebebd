# GNU General Public License v3.0+ (see LICENSE)
"""Filter days_left: for how many days a certificate, PEM, is good."""

from __future__ import annotations

from collections.abc import Callable


def days_left(certificate: str) -> int:
    """For how many days the certificate is good."""
    # Not before it is asked: ansible-test lists the filters in a Python without cryptography.
    from ansible_collections.kubernetes_django.site.plugins.module_utils import certificates

    return round(certificates.days_left(certificate))


class FilterModule:
    """Ansible's side of it."""

    def filters(self) -> dict[str, Callable]:
        return {"days_left": days_left}
