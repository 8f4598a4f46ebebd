# GNU General Public License v3.0+ (see LICENSE)
"""Which of a site's volumes has its data, which PostgreSQL that is of, and what an upgrade of it needs to know.

An upgrade copies the data to a volume of its own: its names are those of the first one with the new major behind,
`postgres-pvc-17` for `postgres-pvc`. Which claim has the data, the server itself says; where there is none, a label.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_volume import check_volume
from ansible_collections.kubernetes_django.site.plugins.module_utils.database import Database, database_of, is_running
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState
from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import job_ended

# On the claim that has the data, once an upgrade has chosen it: the site's name.
DATA_OF = "kubernetes-django/data-of"
# On a claim that an upgrade left: what is on no other volume.
ALONE = "kubernetes-django/not-copied"
# On the server, while an upgrade switches it: the image and the claim that it had.
UPGRADED_FROM = "kubernetes-django/upgraded-from"
COMPONENT = "app.kubernetes.io/component"
# As upgrade.sh closes it: a limit of 0 that somebody set himself has no note of the one before.
CLOSED = """
    SELECT EXISTS (
        SELECT FROM pg_database JOIN pg_db_role_setting ON setdatabase = oid, unnest(setconfig) AS setting
        WHERE datname = {name} AND datconnlimit = 0 AND setrole = 0
            AND setting LIKE 'kubernetes_django.connection_limit=%')
"""


def find_data(site: SiteState) -> dict[str, Any]:
    """Find the volume that has the data; put its suffix behind the names in the site's values as well.

    Returns:
        suffix: what is behind the volume's names, `` or `-17`.
        others: the volumes an upgrade left, or made and did not come to use: suffix, claim; volume, as `check_volume`
        has it; alone, what no other volume has; labelled, whether its label says that it has the data.
        label: the label of the claim that has the data.
        alone: the annotation of a claim that an upgrade left, with what no other volume has.
    """
    values, base = site.values, site.values["storage_claim"]
    claims = site.kube.list("PersistentVolumeClaim", values["site_namespace"]) if site.namespace else []
    claims = {each["metadata"]["name"]: each["metadata"] for each in claims}
    suffixes = {name: suffix for name in claims if (suffix := suffix_of(name, base)) is not None}
    marked = [name for name in suffixes if (claims[name].get("labels") or {}).get(DATA_OF) == values["site_name"]]
    server = site.get("StatefulSet", values.get("postgres_name", "postgres"))
    current = claim_of(server) or max(marked, key=lambda name: (len(name), name), default=base)
    suffix = suffix_of(current, base) or ""
    others = []
    for name, other in suffixes.items():
        if other != suffix:
            volume, _ = check_volume(replace(site, values=values | names_with(values, other)), "storage")
            alone = (claims[name].get("annotations") or {}).get(ALONE, "")
            told = {"volume": volume, "alone": alone, "labelled": name in marked}
            others.append({"suffix": other, "claim": name} | told)
    values |= names_with(values, suffix)
    return {"suffix": suffix, "others": others, "label": DATA_OF, "alone": ALONE}


def check_data_volume(site: SiteState) -> Found:
    """The volume that has the data, and whether it can be used."""
    data = find_data(site)
    data["volume"], findings = check_volume(site, "storage")
    return {"data": data}, findings


def suffix_of(name: str, base: str) -> str | None:
    """What is behind the base's name, or None where this is the name of something else."""
    found = re.fullmatch(re.escape(base) + r"(-\d+)?", name)
    return (found[1] or "") if found else None


def names_with(values: dict[str, Any], suffix: str) -> dict[str, str]:
    """The names of the data's volume, with this suffix."""
    if not suffix:
        return {}
    names = {name: values[name] + suffix for name in ("storage_claim", "storage_volume")}
    return names | {"storage_path": values["storage_path"].rstrip("/") + suffix}


def claim_of(server: dict | None) -> str:
    """The claim that a server has its data on, or nothing."""
    volumes = server["spec"]["template"]["spec"]["volumes"] if server else []
    return next((each["persistentVolumeClaim"]["claimName"] for each in volumes if each["name"] == "data"), "")


def major_of(image: str) -> int:
    """The major version that an image's tag begins with, as `17.12-trixie` does, or 0."""
    found = re.search(r":(\d\d)([.-][^/:]*)?$", image.partition("@")[0])
    return int(found[1]) if found else 0


def wanted_major(values: dict[str, Any]) -> int:
    """The major version of the image that a deploy would bring, or 0 where nobody can tell."""
    reference = values.get("image_postgres_reference")
    return major_of(reference) if reference else values.get("image_postgres_major", 0)


def check_major(values: dict[str, Any], image: str, database: Database) -> list[str]:
    """Data of another major version is no deploy's to take: the new server would not start.

    Args:
        values: the options of all roles.
        image: of the server that runs.
        database: that server.
    """
    wanted = wanted_major(values)
    if values["site_preflight_upgrade"] or wanted in (0, major_of(image)):
        return []
    found = running_major(database)
    if found == wanted:
        return []
    variable = "image_postgres_reference" if values["image_postgres_reference"] else "image_postgres_major"
    if found > wanted:
        return [
            f"{variable}: the data is PostgreSQL {found}'s, which no PostgreSQL {wanted} can read. Set it to {found}."
        ]
    return [
        f"{variable}: the data is PostgreSQL {found}'s, and this deploy would bring {wanted}. playbooks/"
        f"upgrade_postgres.yml takes the data there; until then, set it to {found}."
    ]


def running_major(database: Database) -> int:
    """The major version of a server that runs."""
    return int(database.sql("SHOW server_version_num")) // 10000


def is_closed(database: Database) -> bool:
    """Whether an upgrade has closed the database of a server that runs."""
    # Asked in another one: this one may be gone, and a restore is what brings it back.
    name = "'" + database.name.replace("'", "''") + "'"
    return replace(database, name="postgres").sql(CLOSED.format(name=name)).strip() == "t"


def check_unfinished(values: dict[str, Any], jobs: list[dict], closed: bool) -> list[str]:
    """An upgrade that was killed comes first: it may have closed the database.

    Args:
        values: the options of all roles.
        jobs: the site's.
        closed: whether it has; then its Job may have failed, or be gone.
    """
    if values["site_preflight_upgrade"]:
        return []
    under_way = [job["metadata"]["name"] for job in jobs if is_under_way(job)]
    if under_way:
        return [
            f"An upgrade of PostgreSQL was interrupted (Job {under_way[0]}). Run playbooks/upgrade_postgres.yml "
            "again, which finishes it."
        ]
    if closed:
        return [
            "An upgrade of PostgreSQL was interrupted, and left the database closed: the site answers 503. Run "
            "playbooks/upgrade_postgres.yml again, which finishes it, or opens the database if that fails."
        ]
    return []


def is_under_way(job: dict) -> bool:
    """Whether this is the Job of an upgrade that runs, or that waits for its playbook to go on."""
    return (job["metadata"].get("labels") or {}).get(COMPONENT) == "upgrade" and job_ended(job) != "Failed"


def check_upgrade(site: SiteState) -> Found:
    """What playbooks/upgrade_postgres.yml needs to know, and what stands in its way.

    Returns:
        `upgrade`, as `look_at_upgrade` has it, with volume, the new one, as `check_volume` has it; and the findings.
    """
    values = site.values
    if not values["site_preflight_upgrade"]:
        return {}, []
    if values["postgres_backend"] == "external":
        return {}, ["postgres_backend: PostgreSQL runs elsewhere; its administrator upgrades it."]
    server = site.get("StatefulSet", values["postgres_name"])
    if server is None:
        return {}, ["There is no server to upgrade: playbooks/deploy.yml makes one, of the version it is asked for."]
    wanted = wanted_major(values)
    if not wanted:
        return {}, [
            "image_postgres_reference: its tag must begin with the major version, such as 17-mine, to tell what to "
            "upgrade to."
        ]
    facts = look_at_upgrade(site, server)
    if facts["switched"]:
        return {"upgrade": facts}, []
    if not facts["running"]:
        pod = f"{values['postgres_name']}-0"
        return {}, [f"The server does not run (pod {pod}): deploy with PostgreSQL {facts['found']} first."]
    if facts["found"] > wanted:
        return {}, [f"image_postgres_major: the data is PostgreSQL {facts['found']}'s already, newer than {wanted}."]
    facts["volume"], findings = check_new_volume(site, wanted)
    return {"upgrade": facts}, findings


def look_at_upgrade(site: SiteState, server: dict) -> dict[str, Any]:
    """How far an upgrade of this server to the wanted version is, and what it starts from.

    Returns:
        found and wanted, majors; running, whether the server is; old, the server's image and claim; suffix and claim of
        the new volume; switched, whether the server is on it; unfinished, whether something is left to do then; closed,
        whether the database waits for the end of an upgrade; begun, whether the copy is made already; jobs, the names
        of all that were to make one; opened, whether the site may have written into the new one, so that there is no
        way back; annotation, where the server has `old`.
    """
    values, wanted, current = site.values, wanted_major(site.values), site.state["data"]["suffix"]
    image = server["spec"]["template"]["spec"]["containers"][0]["image"]
    told = (server["metadata"].get("annotations") or {}).get(UPGRADED_FROM)
    old = json.loads(told) if told else {"image": image, "claim": claim_of(server)}
    database = database_of(site.kube, values)
    running = is_running(site.get("Pod", database.pod))
    found = running_major(database) if running else major_of(image)
    jobs = site.list_own("Job", **{COMPONENT: "upgrade"})
    return {
        "wanted": wanted,
        "found": found,
        "running": running,
        "opened": old.pop("opened", False),
        "old": old,
        "annotation": UPGRADED_FROM,
        "suffix": f"-{wanted}",
        "claim": f"{values['storage_claim'].removesuffix(current)}-{wanted}",
        "unfinished": told is not None,
        "switched": told is not None or current == f"-{wanted}" or found == wanted,
        "closed": site.is_closed(),
        "begun": any(map(is_under_way, jobs)),
        "jobs": [job["metadata"]["name"] for job in jobs],
        "volume": {},
    }


def check_new_volume(site: SiteState, wanted: int) -> Found:
    """The volume that the data is copied to, beside the one that has it."""
    values, current = site.values, site.state["data"]["suffix"]
    first = {name: values[name].removesuffix(current) for name in ("storage_claim", "storage_volume", "storage_path")}
    names = names_with(first, f"-{wanted}")
    facts, findings = check_volume(replace(site, values=values | names), "storage")
    if values["storage_kind"] == "claim" and findings:
        return facts, [
            f"storage_kind: the data of PostgreSQL {wanted} needs a claim of its own, {names['storage_claim']}, beside "
            f"{values['storage_claim']}, which stays as it is. Make it in namespace {values['site_namespace']}, then "
            "run again."
        ]
    return facts, findings
