# GNU General Public License v3.0+ (see LICENSE)
"""Tells a slip in a variable of ours, or the name it had once, from a variable of the user's own."""

from __future__ import annotations

import difflib
from typing import Any

# How alike a slip and the name that was meant are, from 0 to 1. One letter too few, too many or in another's place
# leaves more in every name of the roles; other words behind the same prefix leave less.
ALIKE = 0.9

# A name that a variable had once -> the name it has now.
RENAMED = {
    "image_minikube_profile": "minikube_profile",
    "namespace_network_ports": "namespace_network_to",
}


def find_misspelt(names: set[str], given: dict[str, Any], roles: list[str]) -> list[str]:
    """A finding for each variable that is almost called like one of ours, or was once, with the name to write.

    Any other name is its owner's business, also where it begins like ours: `django_debug`, `image_tag`.

    Args:
        names: every variable that the roles know, as input or as a fact.
        given: the variables of the play.
        roles: names of the roles.
    """
    prefixes = tuple(f"{role}_" for role in roles)
    findings = []
    for name in sorted(given):
        if name in names or not name.startswith(prefixes):
            continue
        if name in RENAMED:
            findings.append(f"{name}: this variable is called {RENAMED[name]} now.")
        elif close := difflib.get_close_matches(name, names, n=1, cutoff=ALIKE):
            findings.append(f"{name}: no role knows this variable. Did you mean {close[0]}?")
    return findings
