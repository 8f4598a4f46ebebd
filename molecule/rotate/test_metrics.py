"""The exporter of metrics comes, gets another password, and goes, and the server is not restarted for it."""

from __future__ import annotations

import re

import pytest
from scenario import changed, items, metrics, playbook
from test_rotate import extra, sql

ON = extra(postgres_exporter=True)


def server() -> str:
    """The database's pod."""
    return next(pod["metadata"]["uid"] for pod in items("pods") if pod["metadata"]["name"] == "postgres-0")


def test_metrics() -> None:
    before = server()
    assert changed(playbook("playbooks/deploy.yml", *ON)) > 0
    answer = metrics()
    size = float(re.search(r'(?m)^pg_database_size_bytes\{datname="kubernetes_django"\} (\S+)$', answer)[1])
    assert size == pytest.approx(float(sql("select pg_database_size('kubernetes_django')")), rel=0.1)
    print(f"\npg_up 1, {len(answer.splitlines())} lines, the database has {size / 1e6:.1f} MB")
    assert changed(playbook("playbooks/deploy.yml", *ON)) == 0

    # It reads statistics, and no row.
    assert sql("select has_table_privilege('postgres_exporter', 'notes_note', 'select')").strip() == "f"
    rights = "select string_agg(roleid::regrole::text, ' ') from pg_auth_members where member::regrole::text = "
    assert sql(f"{rights}'postgres_exporter'").strip() == "pg_monitor"

    other = extra(postgres_exporter=True, secrets_postgres_exporter_password="another-one.~_")
    assert changed(playbook("playbooks/deploy.yml", *other)) > 0
    metrics()

    assert changed(playbook("playbooks/deploy.yml")) > 0
    assert items("pods,services,deployments,secrets", "-l", "app.kubernetes.io/component=metrics") == []
    assert sql("select count(*) from pg_roles where rolname = 'postgres_exporter'").strip() == "0"
    assert changed(playbook("playbooks/deploy.yml")) == 0
    assert server() == before, "the server was not restarted for any of it"
