# GNU General Public License v3.0+ (see LICENSE)
"""The releases of a site: the revisions of its Deployment, as the cluster keeps them in ReplicaSets.

There is no other record that could differ from what runs. A release has the name of its image's tag.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from ansible_collections.kubernetes_django.site.plugins.module_utils.kube import PART_OF, Kube
from ansible_collections.kubernetes_django.site.plugins.module_utils.managed_fields import is_own_entry
from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import condition, is_current

REVISION = "deployment.kubernetes.io/revision"
# On a Deployment, and by it on its ReplicaSets: the Job whose migrations were applied before it.
JOB = "kubernetes-django/migrations-job"
# On a ReplicaSet: the revision as which it did not become ready. As a later revision it may have.
FAILED = "kubernetes-django/failed-revision"


@dataclass
class Release:
    """One revision.

    Attributes:
        name: the image's tag, or the end of its digest.
        revision: number; the highest is the newest.
        image: of the first container.
        created: when it was rolled out first, as Kubernetes writes times.
        pods: how many it has, and how many of them are ready.
        failed: it never became ready.
        live: it is what the Deployment asks for.
        job: name of the Job that applied its migrations, or None.
        replica_set: where it is kept.
    """

    name: str
    revision: int
    image: str
    created: str
    pods: tuple[int, int]
    failed: bool
    live: bool
    job: str | None
    replica_set: dict

    @property
    def label(self) -> str:
        """How people are told of it."""
        return f"{self.name} (revision {self.revision})"


def releases_of(kube: Kube, deployment: dict) -> list[Release]:
    """The releases of a Deployment, newest first."""
    metadata = deployment["metadata"]
    found = []
    for each in kube.list("ReplicaSet", metadata["namespace"], deployment["spec"]["selector"]["matchLabels"]):
        notes = each["metadata"].get("annotations") or {}
        owners = [owner["uid"] for owner in each["metadata"].get("ownerReferences") or []]
        if metadata["uid"] not in owners or REVISION not in notes:
            continue
        image = each["spec"]["template"]["spec"]["containers"][0]["image"]
        found.append(
            Release(
                name=re.sub(r"^.*[:@]", "", image),
                revision=int(notes[REVISION]),
                image=image,
                created=each["metadata"]["creationTimestamp"],
                pods=(each["status"].get("replicas", 0), each["status"].get("readyReplicas", 0)),
                failed=notes.get(FAILED) == notes[REVISION],
                live=notes[REVISION] == metadata.get("annotations", {}).get(REVISION),
                job=notes.get(JOB),
                replica_set=each,
            )
        )
    return sorted(found, key=lambda release: -release.revision)


def was_live(deployment: dict, releases: list[Release]) -> bool:
    """Whether the newest revision was rolled out to its end once, whatever became of its pods since."""
    progress = condition(deployment, "Progressing")
    newest = next((release.replica_set["metadata"]["name"] for release in releases if release.live), "")
    return (
        is_current(deployment)
        and progress.get("reason") == "NewReplicaSetAvailable"
        and f'"{newest}"' in progress.get("message", "")
    )


def find_serving(releases: list[Release]) -> Release | None:
    """The release that serves while the newest does not become ready, or None at the very first."""
    older = [release for release in releases if not release.live and release.pods[0] > 0]
    return max(older, key=lambda release: (release.pods[1] > 0, release.revision), default=None)


def find_wanted(releases: list[Release], wanted: str) -> Release | None:
    """The release of that name or revision; with no name the one before the live one that was not a failure."""
    if not wanted:
        return next((release for release in releases if not release.live and not release.failed), None)
    named = [release for release in releases if wanted in (release.name, release.image)]
    return next(iter(named + [release for release in releases if wanted == str(release.revision)]), None)


def put_to(kube: Kube, deployment: dict, release: Release) -> None:
    """Give a Deployment the pod template of a release.

    By the same kind of apply and under the same name as the playbooks: a patch by somebody else would own fields,
    and the next deploy could not take away what only the old template has. What the playbooks did not set (the number
    of replicas under an autoscaler) is not set here either.
    """
    metadata = deployment["metadata"]
    ours = [entry["fieldsV1"] for entry in metadata.get("managedFields") or [] if is_own_entry(entry)]
    fields = ours[0] if ours else {}
    owned = {key.removeprefix("f:") for key in fields.get("f:spec", {})} | {"selector"}
    template = json.loads(json.dumps(release.replica_set["spec"]["template"]))
    template["metadata"]["labels"].pop("pod-template-hash", None)
    template["metadata"].pop("creationTimestamp", None)
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]}
        | {
            part: {
                key: value
                for key, value in (metadata.get(part) or {}).items()
                if f"f:{key}" in fields.get("f:metadata", {}).get(f"f:{part}", {})
            }
            for part in ("labels", "annotations")
        },
        "spec": {key: deployment["spec"][key] for key in owned if key in deployment["spec"]} | {"template": template},
    }
    if release.job:
        body["metadata"]["annotations"][JOB] = release.job
    kube.apply(body)


def mark_failed(kube: Kube, release: Release) -> None:
    """Remember that a release did not become ready: nobody wants to go back to it."""
    metadata = release.replica_set["metadata"]
    kube.annotate("ReplicaSet", metadata["name"], metadata["namespace"], FAILED, str(release.revision))


def migrated(kube: Kube, site: str, namespace: str) -> list[str]:
    """Names of the Jobs that the releases say were Complete before them: a Job itself is deleted after its time."""
    sets = kube.list("ReplicaSet", namespace, {PART_OF: site})
    return sorted({job for each in sets if (job := (each["metadata"].get("annotations") or {}).get(JOB))})


def take_back(kube: Kube, site: str, namespace: str, job: str | None = None) -> bool:
    """Take back what releases say of this Job, or of any, that it was Complete; return whether one said so."""
    said = False
    # The Deployment first: its controller copies its annotations to the newest ReplicaSet.
    for kind in ("Deployment", "ReplicaSet"):
        for each in kube.list(kind, namespace, {PART_OF: site}):
            noted = (each["metadata"].get("annotations") or {}).get(JOB)
            if noted is not None and job in (None, noted):
                kube.annotate(kind, each["metadata"]["name"], namespace, JOB, None)
                said = True
    return said


def forget_migrations(kube: Kube, site: str, namespace: str) -> list[str]:
    """Delete the migrations' Jobs, and what the releases say of them: the next deploy runs the migrations again.

    For whoever changes the schema in another way: a restore, or migrations that are reversed.

    Returns:
        the names of the Jobs.
    """
    take_back(kube, site, namespace)
    jobs = kube.list("Job", namespace, {PART_OF: site, "app.kubernetes.io/component": "migrations"})
    for job in jobs:
        path = kube.path("Job", namespace, job["metadata"]["name"])
        kube.request("DELETE", path, query={"propagationPolicy": "Background"})
    return [job["metadata"]["name"] for job in jobs]
