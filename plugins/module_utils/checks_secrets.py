# GNU General Public License v3.0+ (see LICENSE)
"""What preflight asks of Secrets that somebody else makes: there, with the right keys, and values that can be right."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.keyed_checksum import keyed_checksum
from ansible_collections.kubernetes_django.site.plugins.module_utils.secret import values_of
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState
from ansible_collections.kubernetes_django.site.plugins.module_utils.vault_file import random_text

# Options that come from the vault, or are handed on from there: with Secrets of others nobody looks at them.
FROM_VAULT = {
    "secrets_postgres_app_password",
    "secrets_postgres_owner_password",
    "secrets_postgres_admin_password",
    "secrets_django_secret_key",
    "secrets_backup_signing_key",
    "secrets_backup_identity",
    "secrets_backup_s3_access_key",
    "secrets_backup_s3_secret_key",
    "postgres_external_owner_password",
    "postgres_external_app_password",
    "postgres_external_checksum",
}


def wanted(values: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Variable with the name of each Secret -> its keys -> the option that has the key's value otherwise."""
    secrets = {
        "secrets_postgres_app": {"user": "secrets_postgres_app_user", "password": "secrets_postgres_app_password"},
        "secrets_postgres_owner": {
            "user": "secrets_postgres_owner_user",
            "password": "secrets_postgres_owner_password",
        },
        "secrets_postgres_admin": {"password": "secrets_postgres_admin_password"},
        "secrets_django": {"secret-key": "secrets_django_secret_key"},
    }
    if values.get("postgres_backup_schedule") or values.get("secrets_backup_signing_key"):
        secrets["secrets_backup_signing"] = {"key": "secrets_backup_signing_key"}
    if values.get("postgres_backup_recipients") and values.get("postgres_drill_schedule"):
        secrets["secrets_backup_encryption"] = {"identity": "secrets_backup_identity"}
    if values.get("postgres_backup_s3_endpoint"):
        secrets["secrets_backup_s3"] = {
            "access-key": "secrets_backup_s3_access_key",
            "secret-key": "secrets_backup_s3_secret_key",
        }
    return secrets


def read_existing(site: SiteState) -> Found:
    """The Secrets of somebody else's that the site uses; their values become those that the vault has otherwise."""
    values, namespace, findings = site.values, site.values["site_namespace"], []
    if values["secrets_source"] != "existing":
        return {}, []
    if values.get("postgres_backend") == "external":
        return {}, [
            "secrets_source: existing is for a PostgreSQL in the cluster. With postgres_backend external keep a vault, "
            "and let it look up values in your store of secrets."
        ]
    for variable, keys in wanted(values).items():
        name = values[variable]
        data = values_of(site.get("Secret", name))
        if not data:
            findings.append(
                f"{variable}: there is no Secret {name} in namespace {namespace}, or it is empty. secrets_source is "
                f"existing: make it, with {', '.join(keys)}."
            )
            continue
        site.secrets[name] = data
        for key, option in keys.items():
            value = data.get(key, "")
            if not value or value != value.strip():
                fault = "lacks" if not value else "has white space or a newline around"
                findings.append(f"{variable}: the Secret {name} {fault} the key {key}. Mend it where it comes from.")
            elif key == "user" and value != values[option]:
                findings.append(
                    f"{option}: is {values[option]}, and the Secret {name} says {value}. Make them the same."
                )
            values[option] = value
    return {}, findings


def look_at_secrets(site: SiteState) -> Found:
    """Checksums of the Secrets, as role secrets has them. A playbook that knows no key compares nothing."""
    key = site.values.get("secrets_django_secret_key") or random_text(40)
    return {"secrets": {name: keyed_checksum(data, key) for name, data in site.secrets.items()}}, []
