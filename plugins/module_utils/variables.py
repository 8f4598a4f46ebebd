# GNU General Public License v3.0+ (see LICENSE)
"""Validates the variables of all roles before the first of them does anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import lease

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load

ENTRY_POINT = "main"
# Smallest and largest values that make sense; argument specs know no ranges.
RANGES = {
    "site_wait_timeout": (1, 86400),
    "site_node_patience": (0, 86400),
    "site_log_lines": (1, 10000),
    "site_lease_seconds": (5, lease.LONGEST_SECONDS),
    "storage_uid": (1, 2**31),
    "postgres_port": (1, 65535),
    "postgres_uid": (1, 2**31),
    "postgres_stop_seconds": (10, 3600),
    "postgres_tls_days": (1, 3000),
    "postgres_tls_renew_days": (0, 2999),
    "postgres_backup_keep": (1, 10000),
    "postgres_backup_keep_days": (0, 36500),
    "postgres_backup_minimum": (1, 10000),
    "postgres_backup_deadline": (0, 604800),
    "postgres_archive_seconds": (10, 3600),
    "postgres_archive_days": (1, 36500),
    "django_port": (1, 65535),
    "django_connections": (0, 10000),
    "django_node_port": (1, 65535),
    "django_proxy_port": (1024, 65535),
    "django_proxy_connections": (64, 65536),
    "django_proxy_client_connections": (0, 65536),
    "django_proxy_header_kilobytes": (8, 256),
    "django_proxy_header_seconds": (1, 600),
    "django_proxy_body_megabytes": (1, 102400),
    "django_proxy_silence_seconds": (1, 600),
    "django_proxy_answer_seconds": (1, 86400),
    "django_trusted_proxies": (0, 10),
    "django_private_port": (1024, 65535),
    "django_logins_per_minute": (0, 6000),
    "django_metrics_port": (1024, 65535),
    "django_replicas": (1, 1000),
    "django_disruptions": (0, 1000),
    "django_drain_seconds": (0, 600),
    "django_stop_seconds": (15, 3600),
    "django_progress_seconds": (10, 3600),
    "django_migrations_backoff_limit": (0, 100),
    "django_migrations_deadline": (1, 86400),
    "django_migrations_ttl": (60, 2**31),
    "django_history": (1, 100),
    "django_uid": (1, 2**31),
}


def load_spec(roles_path: Path, role: str) -> dict[str, dict[str, Any]]:
    """The options of a role's entry points, all of them together, without the defaults: those are in defaults/main.yml.

    With a default here as well, the validator would turn a value that is deliberately none into an empty text.

    Args:
        roles_path: the folder of the roles.
        role: name of the role.
    """
    spec = yaml_load((roles_path / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    options = {name: option for entry in spec.values() for name, option in entry["options"].items()}
    return {name: {key: option[key] for key in option if key != "default"} for name, option in options.items()}


def evaluate(
    templar: Any, defaults: dict[str, Any], spec: dict[str, Any], given: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Template the value of each option of a role.

    Args:
        templar: Ansible's templar.
        defaults: the role's defaults, as loaded by Ansible (trusted as templates).
        spec: the role's options.
        given: the variables of the play.

    Returns:
        the values, and a finding for each that cannot be computed.
    """
    variables = {**defaults, **given}
    values, findings = {}, []
    templar = templar.copy_with_new_env(available_variables=variables)
    for name in spec:
        if name not in variables:
            continue
        try:
            values[name] = templar.template(variables[name])
        except AnsibleError as error:
            findings.append(f"{name}: {explain_undefined(error)}")
    return values, findings


def explain_undefined(error: AnsibleError) -> str:
    """What to do about a value that cannot be computed; a key that the vault lacks is the usual case."""
    text = str(error)
    missing = next((word for word in text.replace("'", " ").split() if word.startswith("vault_")), None)
    if missing:
        return (
            f"{missing} is missing in group_vars/all/vault.yml. Add it: ansible-vault edit "
            "group_vars/all/vault.yml (no vault yet: playbooks/vault.yml makes one)"
        )
    return text


def validate(spec: dict[str, Any], values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Type, choices, required and unknown keys, down into the dicts.

    Returns:
        the values in their types (`-e` gives text only), and a finding for each fault.
    """
    result = ArgumentSpecValidator(spec).validate(values)
    return result.validated_parameters, result.error_messages


def find_blanks(values: dict[str, Any]) -> list[str]:
    """A finding for each text that is empty where it must not be, or ends in white space (from `echo`, say)."""
    findings = []
    for name, value in values.items():
        if not isinstance(value, str):
            continue
        if value != value.strip():
            findings.append(
                f"{name}: begins or ends with white space or a newline. Remove it "
                f"(in the vault: ansible-vault edit group_vars/all/vault.yml)."
            )
        elif name.startswith("secrets_") and not value:
            findings.append(f"{name}: is empty. Give it a value: ansible-vault edit group_vars/all/vault.yml")
        elif name.startswith("secrets_postgres_") and "\n" in value:
            findings.append(f"{name}: has more than one line, and PostgreSQL's programs take one.")
    return findings


def find_out_of_range(values: dict[str, Any]) -> list[str]:
    """A finding for each number that is not within its RANGES."""
    return [
        f"{name}: {values[name]} is out of range, it goes from {low} to {high}."
        for name, (low, high) in RANGES.items()
        if isinstance(values.get(name), int) and not low <= values[name] <= high
    ]
