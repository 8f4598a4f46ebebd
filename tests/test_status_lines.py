"""What playbooks/status.yml tells of backups, drills and their schedules."""

from __future__ import annotations

import datetime
import json

from ansible_collections.kubernetes_django.site.plugins.filter.data_lines import data_lines, schedule_lines

DF = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 1000 500 500 50% /data"


def ago(hours: float) -> str:
    """An ISO 8601 moment."""
    return f"{datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"


def test_10_failed_backup_and_drill_are_told() -> None:
    failed = {f"failed_{what}": {"finished_at": ago(5), "cause": f"the {what} is bad"} for what in ("backup", "drill")}
    assert data_lines(f"{DF}\n{json.dumps({'kubernetes_django': failed})}")[1:] == [
        "  Last backup: none yet; playbooks/backup.yml makes one",
        "  FAILED: a backup, 5 h ago: the backup is bad",
        "  Last drill: none yet; playbooks/restore_drill.yml makes one",
        "  FAILED: a drill, 5 h ago: the drill is bad",
    ]


def test_10_schedule_that_never_succeeded_is_told() -> None:
    def job(name: str, **status: object) -> dict:
        return {"metadata": {"name": name, "namespace": "ns"}, "spec": {"schedule": "0 3 * * *"}, "status": status}

    jobs = [
        job("good", lastScheduleTime=ago(3), lastSuccessfulTime=ago(2.9)),
        job("never", lastScheduleTime=ago(3)),
        job("once", lastScheduleTime=ago(3), lastSuccessfulTime=ago(100)),
        job("running", lastScheduleTime=ago(0.1), lastSuccessfulTime=ago(100), active=[{"name": "running-1"}]),
        job("young"),
    ]
    assert schedule_lines(jobs) == [
        "  Schedule good (0 3 * * *): last success 2 h ago",
        "  Schedule never (0 3 * * *): no success yet; FAILED: its run 3 h ago, see kubectl -n ns describe jobs",
        "  Schedule once (0 3 * * *): last success 4 d ago; FAILED: its run 3 h ago, see kubectl -n ns describe jobs",
        "  Schedule running (0 3 * * *): last success 4 d ago, begun 6 min ago",
        "  Schedule young (0 3 * * *): no success yet",
    ]
