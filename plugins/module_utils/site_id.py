# GNU General Public License v3.0+ (see LICENSE)
"""Whose vault it is: a site's own id, in its vault and in a Secret beside its others."""

from __future__ import annotations

import uuid
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import checks_secrets
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState

# The Secret that role namespace makes, and its key.
SECRET, KEY = "site-id", "id"
# How a checkout gets the vault of a site that is there.
CURES = (
    "copy the vault from where the site was deployed to {vault}, with its password; or have one written from the "
    "site's Secrets: ansible-playbook playbooks/vault.yml -e recover=true"
)


def new_id() -> str:
    """An id that no other site has."""
    return str(uuid.uuid4())


def check_form(values: dict[str, Any]) -> list[str]:
    """What is no UUID could be a path, and the id is part of the places of backups and archive."""
    try:
        known = not values["site_id"] or str(uuid.UUID(values["site_id"])) == values["site_id"]
    except ValueError:
        known = False
    if known:
        return []
    return [
        f"site_id: {values['site_id']!r} is no UUID in small letters. Put the one of the Secret {SECRET} into the "
        "vault (vault_site_id), or take it out where the site was not deployed yet."
    ]


def check_site_id(site: SiteState) -> Found:
    """The vault must be the one that the site was deployed with: another one would change all its passwords.

    A site or a vault of an earlier version has no id. Then the vault is the site's where one of its values is.

    Returns:
        `identity`: id, the site's, a new one where there is none; and the finding.
    """
    values, secrets = site.values, site.secrets
    live, own = secrets.get(SECRET, {}).get(KEY, ""), values["site_id"]
    other = bool(own and own != live) if live else bool(own) and shares_nothing(values, secrets)
    if not other:
        return {"identity": {"id": live or own or new_id()}}, []
    return {"identity": {"id": live}}, [
        f"vault_site_id: the vault of this run is not the one that the site {values['site_name']} in namespace "
        f"{values['site_namespace']} was deployed with, and would change all its passwords. Do one of two things: "
        f"{CURES.format(vault='group_vars/all/vault.yml')}. The vault that is here now is kept beside it."
    ]


def shares_nothing(values: dict[str, Any], secrets: dict[str, dict[str, str]]) -> bool:
    """Whether there are passwords or keys in the cluster, and none of them is the vault's."""
    if values.get("secrets_source") != "vault":
        return False
    pairs = [
        (secrets[values[variable]].get(key), values.get(option))
        for variable, keys in checks_secrets.wanted(values).items()
        for key, option in keys.items()
        if key != "user" and values[variable] in secrets
    ]
    return bool(pairs) and all(live != own for live, own in pairs)
