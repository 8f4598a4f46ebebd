"""Processes and pods that die. The site recovers by itself, and no row that was acknowledged is lost."""

from __future__ import annotations

import time

from disturbance import disturbed, first_process, on_node, web_pods
from scenario import kubectl, pods_as_they_are, sql

# Seconds without an acknowledged row, on a busy machine; docs/reliability.md has the figures of a quiet one. Who waits
# for a grace period or a time-out to end takes longer.
GAP = 15.0


def test_1_database_pod_deleted() -> None:
    with disturbed("1 database pod deleted") as cost:
        kubectl("delete", "pod", "postgres-0", "--wait=false")
    assert cost.replaced == 1
    assert cost.write_gap < GAP


def test_2_database_pod_deleted_without_grace() -> None:
    with disturbed("2 database pod deleted with no grace") as cost:
        kubectl("delete", "pod", "postgres-0", "--wait=false", "--grace-period=0", "--force")
    assert cost.replaced == 1
    assert cost.write_gap < GAP


def test_3_postmaster_killed() -> None:
    postmaster = first_process("postgres-0")
    with disturbed("3 postmaster `kill -9`") as cost:
        on_node("kill", "-9", str(postmaster))
    assert cost.restarts == 1
    assert cost.write_gap < GAP


def test_4_backend_killed() -> None:
    started = sql("select pg_postmaster_start_time()")
    backend = "select pid from pg_stat_activity where usename = 'kube_boss' limit 1"
    with disturbed("4 a backend `kill -9`") as cost:
        kubectl("exec", "postgres-0", "--", "sh", "-c", f'kill -9 $(psql -U postgres -Atc "{backend}")')
    assert sql("select pg_postmaster_start_time()") == started
    assert "was terminated by signal 9" in kubectl("logs", "postgres-0", "--since=60s")
    assert cost.write_gap < GAP


def test_5_web_pod_deleted() -> None:
    with disturbed("5 a web pod deleted") as cost:
        kubectl("delete", "pod", web_pods()[0], "--wait=false")
    assert cost.replaced == 1
    assert cost.failed() == {}


def test_6_gunicorn_master_killed() -> None:
    master = first_process(web_pods()[0])
    with disturbed("6 gunicorn's master `kill -9`") as cost:
        on_node("kill", "-9", str(master))
    assert cost.restarts == 1


def test_7_all_web_pods_deleted() -> None:
    with disturbed("7 all web pods deleted at once") as cost:
        kubectl("delete", "pods", "--wait=false", *web_pods())
    assert cost.replaced == 2


def test_8_database_away_for_a_minute() -> None:
    web = {pod: restarts for pod, restarts in pods_as_they_are().items() if not pod.startswith("postgres")}
    with disturbed("8 database scaled to 0 for a minute and back") as cost:
        kubectl("scale", "statefulset/postgres", "--replicas=0")
        kubectl("wait", "--for=delete", "pod/postgres-0", "--timeout=60s")
        gone = time.monotonic()
        time.sleep(60)
        back = time.monotonic()
        kubectl("scale", "statefulset/postgres", "--replicas=1")
    meanwhile = [r.outcome for r in cost.reader.requests + cost.writer.requests if gone + 1 < r.began < back - 1]
    assert set(meanwhile) == {503}
    after = pods_as_they_are()
    assert {pod: after[pod] for pod in web} == web
