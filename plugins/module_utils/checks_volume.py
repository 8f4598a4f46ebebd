# GNU General Public License v3.0+ (see LICENSE)
"""What role storage needs to know of a volume, the data's or the backups', and what stands in its way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import PART_OF, Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.server_settings import bytes_of
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState

# The end of the name of the namespace in which the Job works on a volume's directory; see roles/storage/vars.
DIRECTORY_NAMESPACE = {"storage": "volume", "postgres_backup": "backup-volume"}


def check_volume(site: SiteState, prefix: str) -> Found:
    """The volume and the claim must be this site's, or nobody's, and able to become what is asked for.

    Args:
        site: where it is, with its options.
        prefix: what the options' names begin with, such as `storage`; the findings name them.

    Returns:
        facts without their prefix: prepared, released, current, grows, namespace_left; and the findings.
    """
    facts = dict.fromkeys(("prepared", "released", "current", "grows", "namespace_left"), False)
    size = site.values[f"{prefix}_size"]
    try:
        bytes_of(size)
    except ValueError:
        return facts, [f"{prefix}_size: {size!r} is no size of a volume, such as 2Gi."]
    claim = site.get("PersistentVolumeClaim", site.values[f"{prefix}_claim"])
    checks = {"claim": check_given, "class": check_provisioned, "hostpath": check_hostpath}
    found, findings = checks[site.values[f"{prefix}_kind"]](site, prefix, claim)
    return facts | found, findings


def check_given(site: SiteState, prefix: str, claim: dict | None) -> Found:
    """A claim that somebody else makes must be there."""
    if claim is not None:
        return {"current": True}, []
    return {}, [
        f"{prefix}_claim: there is no claim {site.values[f'{prefix}_claim']} in namespace "
        f"{site.values['site_namespace']}. Make it, or choose another {prefix}_kind."
    ]


def check_provisioned(site: SiteState, prefix: str, claim: dict | None) -> Found:
    """A claim for a StorageClass must be able to become what is asked for; before it is made, the class counts."""
    if claim is None:
        return {}, check_class(site.kube, prefix, site.values[f"{prefix}_class"])
    size = site.values[f"{prefix}_size"]
    grows = bytes_of(size_of(claim)) != bytes_of(size)
    findings = check_growth(site.kube, prefix, claim, size) if grows else []
    facts = {"current": is_bound(claim) and not grows, "grows": grows}
    return facts, findings + check_class_stays(site.values, prefix, claim)


def check_hostpath(site: SiteState, prefix: str, claim: dict | None) -> Found:
    """A directory on the node must be no other volume's, and the site's volume and claim stay as they are."""
    values, path = site.values, site.values[f"{prefix}_path"]
    findings = check_hostpath_claim(values, prefix, claim) if claim else []
    if not path.startswith("/") or path.rstrip("/").count("/") < 2:
        findings.append(
            f"{prefix}_path: {path!r} must be an absolute path of at least two parts, such as /data/postgres-pv."
        )
    # The Job that works on the directory has a namespace of its own; a run that was killed may have left it.
    directory_namespace = f"{values['site_namespace']}-{DIRECTORY_NAMESPACE[prefix]}"
    facts = {"namespace_left": site.kube.get("Namespace", directory_namespace) is not None}
    for volume in site.kube.list("PersistentVolume"):
        if volume["metadata"]["name"] == values[f"{prefix}_volume"]:
            facts |= look_at_hostpath(values, prefix, claim, volume)
            findings += check_owner(values, prefix, volume)
        else:
            findings += check_other_directory(values, prefix, volume)
    return facts, findings


def look_at_hostpath(values: dict[str, Any], prefix: str, claim: dict | None, volume: dict) -> dict[str, bool]:
    """What was done to the site's volume."""
    annotation = (volume["metadata"].get("annotations") or {}).get(values["site_prepared_annotation"])
    prepared = annotation == f"{values[f'{prefix}_path']}:{values['storage_uid']}"
    return {
        "prepared": prepared,
        "released": volume["status"].get("phase") == "Released",
        # Nothing else of a volume can change: such a one need not be applied again.
        "current": is_bound(claim)
        and prepared
        and volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
        and bytes_of(volume["spec"]["capacity"]["storage"]) == bytes_of(values[f"{prefix}_size"]),
    }


def check_hostpath_claim(values: dict[str, Any], prefix: str, claim: dict) -> list[str]:
    """A claim for a directory keeps its size and its class."""
    old, size = size_of(claim), values[f"{prefix}_size"]
    findings = []
    if bytes_of(old) != bytes_of(size):
        findings.append(
            f"{prefix}_size: the claim {claim['metadata']['name']} has {old} and cannot become {size}: a hostPath "
            f"volume does not grow (it never limits anything either). Set {prefix}_size to {old}."
        )
    return findings + check_class_stays(values, prefix, claim)


def check_class_stays(values: dict[str, Any], prefix: str, claim: dict) -> list[str]:
    """The class of a claim cannot change."""
    old, wanted = claim["spec"].get("storageClassName") or "", values[f"{prefix}_class"]
    if not wanted or wanted == old:
        return []
    return [
        f"{prefix}_class: the claim {claim['metadata']['name']} has the class {old!r}, which cannot become {wanted!r}. "
        f"Set {prefix}_class to the old one, or name another {prefix}_claim."
    ]


def check_owner(values: dict[str, Any], prefix: str, volume: dict) -> list[str]:
    """The volume of this name must be the site's, and already at the directory."""
    name, path, claim = (values[f"{prefix}_{option}"] for option in ("volume", "path", "claim"))
    owner, at = (volume["metadata"].get("labels") or {}).get(PART_OF), directory_of(volume)
    if owner != values["site_name"] or claim_of(volume) != f"{values['site_namespace']}/{claim}":
        return [
            f"{prefix}_volume: {name} belongs to the claim {claim_of(volume)} of the site {owner}. Choose another "
            f"{prefix}_volume and {prefix}_path."
        ]
    if at != path:
        return [
            f"{prefix}_path: the volume {name} is at {at} and cannot move to {path}. Set {prefix}_path to {at}, or "
            f"name another {prefix}_volume and {prefix}_claim."
        ]
    return []


def check_other_directory(values: dict[str, Any], prefix: str, other: dict) -> list[str]:
    """Another volume must not be at the same directory."""
    path, at = values[f"{prefix}_path"], directory_of(other)
    if not at or at.rstrip("/") != path.rstrip("/"):
        return []
    return [
        f"{prefix}_path: {path} is already the directory of the volume {other['metadata']['name']} (claim "
        f"{claim_of(other)}). Choose another {prefix}_path."
    ]


def directory_of(volume: dict) -> str | None:
    """The directory of the node that a volume is."""
    return (volume["spec"].get("hostPath") or {}).get("path")


def claim_of(volume: dict) -> str:
    """Namespace and name of the claim that a volume is for."""
    claim = volume["spec"].get("claimRef") or {}
    return f"{claim.get('namespace')}/{claim.get('name')}"


def size_of(claim: dict) -> str:
    """The size that a claim asks for."""
    return claim["spec"]["resources"]["requests"]["storage"]


def is_bound(claim: dict | None) -> bool:
    """Whether there is a claim, with a volume."""
    return claim is not None and claim["status"].get("phase") == "Bound"


def holds_data(values: dict[str, Any]) -> bool:
    """Whether a hostPath directory of this machine has a database, which may be all that is left of a cluster."""
    return values["storage_kind"] == "hostpath" and Path(values["storage_path"], "pgdata", "PG_VERSION").is_file()


def check_growth(kube: Kube, prefix: str, claim: dict, size: str) -> list[str]:
    """A claim never shrinks, and grows only when it is bound and its class says that it can grow volumes."""
    name, old = claim["metadata"]["name"], size_of(claim)
    class_name = claim["spec"].get("storageClassName") or ""
    if bytes_of(size) < bytes_of(old):
        why = "no volume shrinks"
    elif not is_bound(claim):
        why = "it is not bound to a volume yet"
    elif can_grow(kube, class_name):
        return []
    else:
        why = f"its StorageClass {class_name} does not say allowVolumeExpansion: true"
    return [
        f"{prefix}_size: the claim {name} has {old} and cannot become {size}: {why}. Set {prefix}_size to {old}. To "
        "move the data to another volume, make a backup, name another claim, deploy, and restore."
    ]


def can_grow(kube: Kube, name: str) -> bool:
    """Whether a StorageClass says so; where nobody may look, the API server will say it."""
    try:
        found = kube.get("StorageClass", name) if name else None
    except KubeError as error:
        if error.status == 403:
            return True
        raise
    return bool(found and found.get("allowVolumeExpansion"))


def check_class(kube: Kube, prefix: str, name: str) -> list[str]:
    """A claim for a StorageClass that is not there would be pending for ever."""
    classes = kube.list_if_allowed("StorageClass")
    if classes is None:
        return []
    names = [each["metadata"]["name"] for each in classes]
    default = "storageclass.kubernetes.io/is-default-class"
    if name and name not in names:
        return [
            f"{prefix}_class: the cluster has no StorageClass {name}, only {', '.join(names) or 'none'}. "
            f"Name one of these, or choose another {prefix}_kind."
        ]
    if not name and not any((each["metadata"].get("annotations") or {}).get(default) == "true" for each in classes):
        return [
            f"{prefix}_class: the cluster has no default StorageClass. Name one "
            f"({', '.join(names) or 'it has none'}), or choose another {prefix}_kind."
        ]
    return []
