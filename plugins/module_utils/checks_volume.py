"""What role storage needs to know of a volume, the data's or the backups', and what stands in its way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import PART_OF, Kube, KubeError
from ansible_collections.kubernetes_django.site.plugins.module_utils.server_settings import bytes_of

# The end of the name of the namespace in which the Job works on a volume's directory; see roles/storage/vars.
DIRECTORY_NAMESPACE = {"storage": "volume", "postgres_backup": "backup-volume"}


def check_volume(kube: Kube, values: dict[str, Any], prefix: str, exists: bool) -> tuple[dict[str, bool], list[str]]:
    """The volume and the claim must be this site's, or nobody's, and able to become what is asked for.

    Args:
        kube: the connection.
        values: the roles' variables.
        prefix: what the variables' names begin with, such as `storage`; the findings name them.
        exists: whether the site's namespace does.

    Returns:
        facts without their prefix: prepared, released, current, grows, namespace_left; and the findings.
    """
    kind, site, namespace = values[f"{prefix}_kind"], values["site_name"], values["site_namespace"]
    name, claim_name, path = values[f"{prefix}_volume"], values[f"{prefix}_claim"], values[f"{prefix}_path"]
    size, class_name, uid = values[f"{prefix}_size"], values[f"{prefix}_class"], values["storage_uid"]
    facts = {"prepared": False, "released": False, "current": False, "grows": False, "namespace_left": False}
    try:
        wanted = bytes_of(size)
    except ValueError:
        return facts, [f"{prefix}_size: {size!r} is no size of a volume, such as 2Gi."]
    findings = []
    claim = kube.get("PersistentVolumeClaim", claim_name, namespace) if exists else None
    bound = claim is not None and claim["status"].get("phase") == "Bound"
    if kind == "claim":
        facts["current"] = claim is not None
        if claim is None:
            findings.append(
                f"{prefix}_claim: there is no claim {claim_name} in namespace {namespace}. Make it, or choose "
                f"another {prefix}_kind."
            )
    if kind == "class" and claim is None:
        findings += check_class(kube, prefix, class_name)
    if claim is not None and kind != "claim":
        old = claim["spec"]["resources"]["requests"]["storage"]
        differs = bytes_of(old) != wanted
        facts["current"] = kind == "class" and bound and not differs
        if kind == "class" and differs:
            findings += check_growth(kube, prefix, claim, size)
            facts["grows"] = True
        if kind == "hostpath" and differs:
            findings.append(
                f"{prefix}_size: the claim {claim_name} has {old} and cannot become {size}: a hostPath "
                f"volume does not grow (it never limits anything either). Set {prefix}_size to {old}."
            )
        old_class = claim["spec"].get("storageClassName") or ""
        if class_name and old_class != class_name:
            findings.append(
                f"{prefix}_class: the claim {claim_name} has the class {old_class!r}, which cannot become "
                f"{class_name!r}. Set {prefix}_class to the old one, or name another {prefix}_claim."
            )
    if kind == "hostpath":
        # The Job that works on the directory has a namespace of its own; a run that was killed may have left it.
        facts["namespace_left"] = kube.get("Namespace", f"{namespace}-{DIRECTORY_NAMESPACE[prefix]}") is not None
        if not path.startswith("/") or path.rstrip("/").count("/") < 2:
            findings.append(
                f"{prefix}_path: {path!r} must be an absolute path of at least two parts, such as /data/postgres-pv."
            )
        for volume in kube.list("PersistentVolume"):
            ref = volume["spec"].get("claimRef") or {}
            other = f"{ref.get('namespace')}/{ref.get('name')}"
            at = (volume["spec"].get("hostPath") or {}).get("path")
            if volume["metadata"]["name"] != name:
                if at and at.rstrip("/") == path.rstrip("/"):
                    findings.append(
                        f"{prefix}_path: {path} is already the directory of the volume "
                        f"{volume['metadata']['name']} (claim {other}). Choose another {prefix}_path."
                    )
                continue
            owner = (volume["metadata"].get("labels") or {}).get(PART_OF)
            if owner != site or other != f"{namespace}/{claim_name}":
                findings.append(
                    f"{prefix}_volume: {name} belongs to the claim {other} of the site {owner}. Choose "
                    f"another {prefix}_volume and {prefix}_path."
                )
            elif at != path:
                findings.append(
                    f"{prefix}_path: the volume {name} is at {at} and cannot move to {path}. Set "
                    f"{prefix}_path to {at}, or name another {prefix}_volume and {prefix}_claim."
                )
            annotation = (volume["metadata"].get("annotations") or {}).get(values["site_prepared_annotation"])
            facts["prepared"] = annotation == f"{path}:{uid}"
            facts["released"] = volume["status"].get("phase") == "Released"
            # Nothing else of a volume can change: such a one need not be applied again.
            facts["current"] = (
                bound
                and facts["prepared"]
                and volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
                and bytes_of(volume["spec"]["capacity"]["storage"]) == wanted
            )
    return facts, findings


def holds_data(values: dict[str, Any]) -> bool:
    """Whether a hostPath directory of this machine has a database, which may be all that is left of a cluster."""
    return values["storage_kind"] == "hostpath" and Path(values["storage_path"], "pgdata", "PG_VERSION").is_file()


def check_growth(kube: Kube, prefix: str, claim: dict, size: str) -> list[str]:
    """A claim never shrinks, and grows only when it is bound and its class says that it can grow volumes."""
    name, old = claim["metadata"]["name"], claim["spec"]["resources"]["requests"]["storage"]
    class_name = claim["spec"].get("storageClassName") or ""
    if bytes_of(size) < bytes_of(old):
        why = "no volume shrinks"
    elif claim["status"].get("phase") != "Bound":
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
