"""A site whose PostgreSQL runs outside the cluster."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
from pathlib import Path

import programs
import pytest
from scenario import (
    DATABASE,
    NAMESPACE,
    ROOT,
    ask,
    changed,
    items,
    kubectl,
    matches,
    metrics,
    pods_as_they_are,
    secret_values,
)
from scenario import playbook as run_playbook

VARIABLES = "molecule/external_db/vars/external.yml"
FOLDER = Path("/tmp/molecule-external-db")


def playbook(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook on this site, with its variables."""
    return run_playbook(name, "-e", f"@{ROOT / VARIABLES}", *arguments)


def as_postgres(name: str, *arguments: str | Path, **streams: int) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs, of the newest version there is, as its user."""
    program = max(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    command = ["runuser", "-u", "postgres", "--", program, *arguments]
    return subprocess.run(command, cwd="/", check=True, text=True, **streams)


def sql(statement: str) -> str:
    """Ask the database as its administrator, on the machine it runs on."""
    place = ("-h", FOLDER, "-p", "30825", "-U", "postgres", "-d", "kubernetes_django")
    return as_postgres("psql", *place, "-Atc", statement, stdout=subprocess.PIPE).stdout


def server(verb: str) -> None:
    """Stop or start the server."""
    # The server would hold a pipe open.
    place = ("-D", FOLDER / "data", "-l", FOLDER / "log")
    as_postgres("pg_ctl", *place, "-m", "fast", "-w", verb, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


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
    other, _ = programs.self_signed(tmp_path)
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


def rows() -> str:
    """Number and checksum of the rows."""
    return sql("select count(*), md5(string_agg(text, '' order by id)) from notes_note")


def test_backup_and_restore() -> None:
    """By the owner's login. Rights that it lacks are named with what gives them, and nothing is changed."""
    assert ask("/api/notes", {"text": "before the backup"})[0] == 201
    # A row that reads as the line that a newer pg_restore begins with, and this older server does not know.
    line = "SET transaction_timeout = 0;"
    sql(f"set role kubernetes_django_owner; create table line as select '{line}'::text")
    run = playbook("playbooks/backup.yml")
    assert changed(run) > 0
    name = re.search(r"made the backup (\S+):", run.stdout)[1]
    assert re.search(rf"(?m)^{name} .* volume", playbook("playbooks/backups.yml").stdout)
    before = rows()
    sql("delete from notes_note")

    refusal = playbook("playbooks/restore.yml", "-e", "backup=latest")
    assert refusal.returncode != 0
    assert "kubernetes_django_owner lacks rights for a restore at" in refusal.stdout
    cure = "ALTER ROLE kubernetes_django_owner CREATEDB; GRANT pg_signal_backend TO kubernetes_django_owner;"
    assert f"As the administrator run there: {cure}" in refusal.stdout
    assert sql("select count(*) from notes_note") == "0\n"
    assert sql("select count(*) from pg_database where datname like 'kubernetes_django_%'") == "0\n"
    sql(cure)

    began = time.monotonic()
    run = playbook("playbooks/restore.yml", "-e", "backup=latest")
    assert changed(run) > 0
    print(f"\nrestore of a database elsewhere: {time.monotonic() - began:.0f} s")
    assert rows() == before
    assert sql("table line") == f"{line}\n"
    assert sql("select pg_get_userbyid(datdba) from pg_database where datname = current_database()") == (
        "kubernetes_django_owner\n"
    )
    assert "before the backup" in ask("/api/notes")[1]
    assert ask("/api/notes", {"text": "after the restore"})[0] == 201
    run = playbook("playbooks/restore_drill.yml")
    assert changed(run) > 0
    assert f"drill passed: the backup {name} was restored" in run.stdout
    refusal = playbook("playbooks/restore.yml", "-e", "to_time='2026-01-31 14:05:00'")
    assert refusal.returncode != 0
    said = " ".join(refusal.stdout.split())
    assert "the archive of a database elsewhere (postgres_backend: external) is kept by whoever runs it" in said


def test_status_says_how_it_is() -> None:
    """After the tests above: there was a backup, and a drill."""
    seen = playbook("playbooks/status.yml").stdout
    matches(
        seen,
        r"Last backup: \S+-manual, [\d.]+ kB, \d+ min ago; its volume had [\d.]+ \w+ of [\d.]+ \w+ in use",
        r"Last drill: \d+ min ago, the backup \S+ in \d+ s, \d+ tables with \d+ rows",
        *DATABASE,
        r"certificate of its CA good for [12] days",
    )


def test_server_that_is_away_is_told() -> None:
    """By status, which says what it can; by a backup; and when it is back all goes on."""
    server("stop")
    try:
        seen = playbook("playbooks/status.yml")
        assert seen.returncode == 0, seen.stdout
        matches(
            seen.stdout, r"kubernetes-django-\S+ .*", "does not answer: psql: error: connection to server .* failed"
        )
        backup = playbook("playbooks/backup.yml")
        assert backup.returncode != 0
        matches(backup.stdout, r"the database at \S+, port 30825, does not answer\. playbooks/status.yml says more\.")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            ask("/")
    finally:
        server("start")
    deadline = time.monotonic() + 60
    while True:
        try:
            ask("/api/notes", {"text": "it is back"})
            break
        except urllib.error.HTTPError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def test_name_of_the_service_stays_and_metrics_are_there() -> None:
    """An ExternalName Service needs a name to stand for: one that resolves to this machine."""
    elsewhere = {"name": "elsewhere", "namespace": NAMESPACE}
    port = {"name": "postgres", "port": 30825}
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": elsewhere | {"labels": {"kubernetes.io/service-name": "elsewhere"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [(FOLDER / "host").read_text().strip()]}],
        "ports": [port],
    }
    spec = {"clusterIP": "None", "ports": [port]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": elsewhere, "spec": spec}
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [service, slice_]}))
    sql("create role postgres_exporter login password 'metrics' in role pg_monitor")
    variables = {
        "postgres_external_host": f"elsewhere.{NAMESPACE}.svc.cluster.local",
        "postgres_external_service": True,
        "postgres_external_sslmode": "verify-ca",
        "postgres_exporter": True,
        "secrets_postgres_exporter_password": "metrics",
    }
    assert changed(playbook("playbooks/deploy.yml", "-e", json.dumps(variables))) > 0
    told = json.loads(ask("/api/status")[1])
    assert (told["status"], told["database"]["host"]) == ("operational", "postgres-service")
    assert told["database"]["tls"] == "TLSv1.3"
    (named,) = [each for each in items("services") if each["metadata"]["name"] == "postgres-service"]
    assert (named["spec"]["type"], named["spec"]["externalName"]) == (
        "ExternalName",
        variables["postgres_external_host"],
    )
    metrics()
    assert changed(playbook("playbooks/deploy.yml", "-e", json.dumps(variables))) == 0
