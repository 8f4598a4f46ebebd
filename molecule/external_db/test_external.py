"""A site whose PostgreSQL runs outside the cluster."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from scenario import ROOT, ask, items, pods_as_they_are, secret_values
from scenario import playbook as run_playbook

VARIABLES = "molecule/external_db/vars/external.yml"
FOLDER = Path("/tmp/molecule-external-db")


def playbook(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook on this site, with its variables."""
    return run_playbook(name, "-e", f"@{ROOT / VARIABLES}", *arguments)


def sql(statement: str) -> str:
    """Ask the database as its administrator, on the machine it runs on."""
    program = max(Path("/usr/lib/postgresql").glob("*/bin/psql"), key=lambda path: int(path.parts[4]))
    command = [program, "-h", FOLDER, "-p", "30825", "-U", "postgres", "-d", "kubernetes_django", "-Atc", statement]
    return subprocess.run(
        ["runuser", "-u", "postgres", "--", *command], cwd="/", check=True, capture_output=True, text=True
    ).stdout


def refused(*arguments: str) -> str:
    """Deploy, which must fail and leave Secrets and pods as they were; return what a user sees."""
    before = site()
    run = playbook("playbooks/deploy.yml", *arguments)
    assert run.returncode != 0
    assert site() == before
    return run.stdout


def site() -> tuple[dict[str, str], dict[str, int]]:
    """The Secrets that the site uses, and its web pods; not what the Job that looks at the database has."""
    secrets = {name: value for name, value in secret_values().items() if not name.startswith("postgres-external/")}
    pods = {name: restarts for name, restarts in pods_as_they_are().items() if name.startswith("kubernetes-django")}
    return secrets, pods


def test_the_site_runs_on_it() -> None:
    told = json.loads(ask("/api/status")[1])
    assert told["status"] == "operational"
    assert told["database"]["host"] == (FOLDER / "host").read_text().strip()
    assert told["database"]["tls"] == "TLSv1.3"
    assert ask("/api/notes", {"text": "outside"})[0] == 201
    assert sql("select text from notes_note") == "outside\n"
    assert items("statefulsets,persistentvolumeclaims") == []
    print(
        f"PostgreSQL {told['database']['version']} outside the cluster, {told['database']['connect_ms']} ms to connect"
    )


def test_app_reads_and_writes_rows_and_no_more() -> None:
    assert sql("select has_table_privilege('kube_boss', 'notes_note', 'insert')") == "t\n"
    assert sql("select has_schema_privilege('kube_boss', 'public', 'create')") == "f\n"
    assert sql("select distinct tableowner from pg_tables where schemaname = 'public'") == "kubernetes_django_owner\n"


def test_wrong_password_is_named_before_a_secret_changes() -> None:
    seen = refused("-e", "secrets_postgres_app_password=wrong")
    assert "kube_boss cannot log in to kubernetes_django at" in seen
    assert 'password authentication failed for user "kube_boss"' in seen


def test_ca_that_did_not_sign_it_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other.crt"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*make, "-subj", "/CN=other", "-keyout", os.devnull, "-out", other], check=True, capture_output=True)
    seen = refused("-e", json.dumps({"postgres_external_ca": other.read_text().strip()}))
    assert "certificate verify failed" in seen


def test_what_is_missing_is_named_with_its_cure() -> None:
    seen = refused("-e", '{"postgres_extensions": ["pg_trgm"]}')
    assert "lacks pg_trgm. As its administrator run there: CREATE EXTENSION" in seen
    sql("revoke usage on schema public from public, kube_boss")
    try:
        seen = refused("-e", '{"postgres_extensions": ["plpgsql"]}')
    finally:
        sql("grant usage on schema public to kube_boss")
    assert "kube_boss may not use the schema public" in seen
    assert 'GRANT USAGE ON SCHEMA public TO "kube_boss"' in seen


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"postgres_external_host": ""}, "postgres_external_host: is empty"),
        ({"postgres_external_ca": ""}, "postgres_external_ca: verify-full needs the certificate of the CA"),
        ({"postgres_external_service": True}, "postgres_external_service: a Service cannot stand for"),
    ],
)
def test_bad_input_is_refused_at_once(variables: dict, message: str) -> None:
    run = playbook("playbooks/deploy.yml", "-e", json.dumps(variables))
    assert run.returncode != 0
    assert message in run.stdout
    assert "Nothing was touched" in run.stdout
    assert "changed=0" in run.stdout
