# GNU General Public License v3.0+ (see LICENSE)
"""What preflight finds out about the site's Jobs: which need not run again, and which have to."""

from __future__ import annotations

from ansible_collections.kubernetes_django.site.plugins.module_utils import releases
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_upgrade import check_unfinished
from ansible_collections.kubernetes_django.site.plugins.module_utils.site_state import Found, SiteState
from ansible_collections.kubernetes_django.site.plugins.module_utils.workloads import job_ended, job_is_stale


def check_jobs(site: SiteState) -> Found:
    """What became of the site's Jobs; an upgrade that was killed has to end first. A site can be taken away before."""
    jobs, namespace = site.list_own("Job"), site.values["site_namespace"]
    said = releases.migrated(site.kube, site.values["site_name"], namespace) if site.namespace else []
    failed = [job["metadata"]["name"] for job in jobs if job_is_stale(job)]
    state = {"jobs": {"completed": completed_jobs(jobs, said), "failed": failed}}
    return state, check_unfinished(site.values, jobs, site.is_closed()) if "namespace_quota" in site.values else []


def completed_jobs(jobs: list[dict], migrated: list[str]) -> list[str]:
    """Names of the Jobs that are Complete, with those that are gone and that releases say were Complete.

    A first release is made beside its migrations, so it says so too soon: a Job that is there speaks for itself.
    """
    ended = {job["metadata"]["name"]: job_ended(job) for job in jobs}
    return [name for name in sorted(ended | dict.fromkeys(migrated)) if ended.get(name, "Complete") == "Complete"]
