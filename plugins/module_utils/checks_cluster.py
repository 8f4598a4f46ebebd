# GNU General Public License v3.0+ (see LICENSE)
"""What preflight asks of the cluster, part by part."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils import (
    checks_django,
    checks_secrets,
    rights,
    site_id,
)
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_backups import (
    check_backups,
    check_encryption,
)
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_ingress import check_ingress
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_jobs import check_jobs
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_namespace import (
    check_namespace,
    look_at_kinds,
)
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_node_port import check_node_port
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_nodes import look_at_nodes
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_pods import check_priority_class
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_postgres import check_postgres
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_registry import check_pull_secrets
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_rights import check_rights
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_upgrade import (
    check_data_volume,
    check_upgrade,
)
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_version import check_version
from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import Kube
from ansible_collections.kubernetes_django.site.plugins.module_utils.secret import values_of
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState


def check_existing_secrets(site: SiteState) -> Found:
    """What a vault's values were asked before: those of Secrets that somebody else makes are known only now."""
    if site.values["secrets_source"] != "existing":
        return {}, []
    return {}, checks_django.check_secret_key(site.values) + check_encryption(site.values)


# In the order of their findings, each with the role that needs it.
PARTS = (
    ("site", check_namespace),
    ("site", look_at_nodes),
    ("namespace", look_at_kinds),
    ("storage", check_data_volume),
    ("postgres", check_backups),
    ("django", check_node_port),
    ("django", checks_django.look_at_django),
    ("secrets", checks_secrets.read_existing),
    ("secrets", check_existing_secrets),
    # A site can be taken away whosever vault is here.
    ("namespace", site_id.check_site_id),
    ("site", checks_secrets.look_at_secrets),
    ("site", check_pull_secrets),
    ("site", check_ingress),
    ("site", check_priority_class),
    ("postgres", check_postgres),
    ("site", check_upgrade),
    ("site", check_jobs),
)
# Without the Secrets, or with another site's vault, what follows would say of each password that it is wrong.
DECISIVE = (checks_secrets.read_existing, site_id.check_site_id)


def look(
    kube: Kube, roles: list[str], values: dict[str, Any], labels: dict[str, str], backups: bool
) -> tuple[dict[str, dict[str, Any]], list[str], list[str]]:
    """Find out what the roles need to know of the cluster, and what stands in their way.

    Args:
        kube: the connection.
        roles: those that this run is about.
        values: the options of all of them.
        labels: the labels that the namespace is to have.
        backups: whether this run works with backups.

    Returns:
        the state, by part, as plugins/modules/preflight.py describes it; the findings; and notes, for people alone.

    Raises:
        KubeError: no answer, or no right to look.
    """
    name = values["site_namespace"]
    asked = rights.EVERY_DEPLOY + rights.wanted(values) + checks_django.rights(values)
    findings = check_version(kube) + check_rights(kube, name, asked)
    if findings:
        # Without the right to look, what follows would only say so again.
        return {}, findings, []
    site = SiteState(kube, values, kube.get("Namespace", name), labels, backups)
    site.secrets = {each["metadata"]["name"]: values_of(each) for each in site.list_own("Secret")}
    for role, part in PARTS:
        state, found = part(site) if role in roles else ({}, [])
        site.add(state)
        findings += found
        if found and part in DECISIVE:
            break
    return site.state, findings, site.notes
