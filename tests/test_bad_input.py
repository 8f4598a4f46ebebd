"""Bad input gets one clear error that names the variable or file and the cure, before anything is touched.

None of these needs a cluster: they fail before one is asked, or because none answers. Those that do need one are in
molecule/default.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Project
from rendered import find

VAULT = {
    "vault_postgres_app_password": "a",
    "vault_postgres_owner_password": "b",
    "vault_postgres_admin_password": "c",
    "vault_django_secret_key": "0123456789" * 5,
}


def refused(project: Project, *arguments: str, **environment: str) -> str:
    """Run the deploy, which must fail before its first change; return what a user sees."""
    run = project.run("playbooks/deploy.yml", *arguments, **environment)
    seen = run.stdout + run.stderr
    assert run.returncode != 0, seen
    assert "changed=0" in seen or "PLAY RECAP" not in seen, seen
    assert "Traceback" not in seen, seen
    return seen


def test_vault_that_is_older_than_signatures(project: Project) -> None:
    """It is as good as ever where no schedule asks for backups, which would be unsigned."""
    project.write_vault(yaml.safe_dump(VAULT))
    seen = refused(project)
    assert "secrets_backup_signing_key" not in seen
    seen = refused(project, "-e", "postgres_backup_schedule=@daily")
    assert (
        "secrets_backup_signing_key: is not set, and backups are signed with it. Add vault_backup_signing_key to the "
        "vault, 64 random letters and digits: ansible-vault edit group_vars/all/vault.yml"
    ) in seen


# What is given with -e, and what is said of it.
WRONG = [
    ("django_replica=3", "django_replica: no role knows this variable. Did you mean django_replicas?"),
    ("django_replicas=many", "django_replicas"),
    ("django_replicas=0", "django_replicas: 0 is out of range, it goes from 1 to 1000."),
    ("django_replicas=20", "may open 169 connections (8 a pod); PostgreSQL allows 97. Raise max_connections"),
    (
        '{"django_autoscaler": {"maximum": 20}}',
        "maximum in django_autoscaler: 20 pods, 1 more during a rollout, and the migrations may open 169",
    ),
    (
        '{"django_processes": [{"name": "worker", "command": ["x"], "replicas": 9, "connections": 10}]}',
        "django_replicas: 2 pods, those of worker, 1 more during a rollout, and the migrations may open 125",
    ),
    ("django_migrate_target=notes", "django_migrate_target: 'notes' is not an app and a migration of it"),
    ("django_max_surge=many", "django_max_surge: 'many' is neither a number of pods nor a percentage of them."),
    ('{"django_autoscaler": {"minimum": 2}}', "django_autoscaler: minimum 2 and maximum 0: both go from 1 to 1000"),
    ('{"django_processes": [{"name": "web", "command": ["x"]}]}', "and be neither web nor migrations."),
    ('{"django_processes": [{"name": "a", "comand": ["x"]}]}', "comand"),
    (
        '{"django_volumes": [{"name": "tmp", "emptyDir": {}}]}',
        "needs a name of its own, other than django, django-fallbacks, metrics, postgres",
    ),
    ('{"django_volumes": [{"name": "a", "hostPath": {"path": "/a"}}]}', "a is a hostPath, which Pod Security"),
    ('{"django_volume_mounts": [{"name": "a", "mountPath": "/a"}]}', "one of django_volumes (there is none)."),
    (
        '{"django_migrations": "startup", "django_before_migrate": [["a"]]}',
        "django_before_migrate: with django_migr",
    ),
    ("secrets_django_secret_key=short", "secrets_django_secret_key: must have at least 50 characters"),
    (
        '{"secrets_postgres_app_password": "one\\ntwo"}',
        "secrets_postgres_app_password: has more than one line, and PostgreSQL's programs take one.",
    ),
    ("secrets_source=nowhere", "value of secrets_source must be one of: vault, existing, got: nowhere"),
    ('{"django_ingress": {"class": "nginx"}}', "django_ingress: hosts is missing. Name at least one."),
    ('{"django_ingress": {"hosts": ["Site"]}}', "django_ingress: 'Site' is no host name: lower-case, at least two"),
    (
        '{"django_ingress": {"hosts": ["a.example.org"], "certificate": "cert-manager"}}',
        "django_ingress: certificate cert-manager needs an issuer, the name of a ClusterIssuer.",
    ),
    ("django_migrate_lock=true", "django_migrate_lock: migrate_locked takes the lock itself"),
    ("postgres_port=70000", "postgres_port: 70000 is out of range"),
    ("django_proxy_body_megabytes=0", "django_proxy_body_megabytes: 0 is out of range, it goes from 1 to 102400."),
    ("django_port=8010", "django_proxy_port: 8010 is also django_port. Set another port."),
    ("django_proxy_header_kilobytes=9", "django_proxy_header_kilobytes: 9 is no multiple of 8. Set one."),
    ('{"django_private_paths": ["admin"]}', "django_private_paths: 'admin' is no path. It begins with /"),
    ('{"django_login_paths": ["/a b"]}', "django_login_paths: '/a b' is no path. It begins with /"),
    (
        '{"django_proxy_buffer": {"hostPath": {}}}',
        "django_proxy_buffer: {'hostPath': {}} is not one kind of",
    ),
    (
        '{"django_environment": {"DJANGO_TRUSTED_PROXIES": "2"}}',
        "django_environment: DJANGO_TRUSTED_PROXIES has no effect behind nginx",
    ),
    (
        '{"postgres_archive": true, "postgres_archive_storage": "s3"}',
        "postgres_archive_storage: s3 needs a po",
    ),
    ("postgres_backup_s3_ca=mine", "postgres_backup_s3_ca: is no certificate, PEM."),
    (
        '{"postgres_backup_s3_endpoint": "http://s3.example.org", "postgres_backup_s3_bucket": "a"}',
        "postgres_backup_s3_endpoint: http://s3.example.org is no https:// address",
    ),
    ('{"postgres_backup_trusted_keys": ["mine"]}', "postgres_backup_trusted_keys: 'mine' is no public key."),
    ("site_id=../theirs", "site_id: '../theirs' is no UUID in small letters. Put the one of the Secret site-id"),
    (
        '{"postgres_backup_recipients": ["age1mine"]}',
        "postgres_backup_recipients: 'age1mine' is no public key of age.",
    ),
    (
        "vault_backup_identity=mine",
        "secrets_backup_identity: a line of it is no private key of age. Mend vault_backup_",
    ),
    ("postgres_backup_deadline=59", "postgres_backup_deadline: 59 is out of range, it goes from 60 to 604800;"),
    ("postgres_backup_minimum=0", "postgres_backup_minimum: 0 is out of range, it goes from 1 to 10000."),
    ("storage_kind=nfs", "value of storage_kind must be one of: hostpath, class, claim, got: nfs"),
    ('{"django_resources": {"limits": {"memroy": "1Gi"}}}', "memroy"),
    ('{"django_environment": [1]}', "django_environment"),
    (
        '{"postgres_database": "name\\n"}',
        "postgres_database: begins or ends with white space or a newline. Remove it",
    ),
]


def given(variable: str) -> dict[str, Any]:
    """The variables that -e makes of its argument."""
    return json.loads(variable) if variable.startswith("{") else dict([variable.split("=", 1)])


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What is said of each of WRONG."""
    return find(tmp_path_factory.mktemp("wrong"), [VAULT | given(variable) for variable, _ in WRONG])


@pytest.mark.parametrize("case", range(len(WRONG)), ids=[variable for variable, _ in WRONG])
def test_wrong_variable(findings: list[str], case: int) -> None:
    assert WRONG[case][1] in findings[case]
    assert "Nothing was touched. Mend this first:" in findings[case]


def test_wrong_variable_of_a_deploy(shared_project: Project) -> None:
    """By -e, as a user gives it."""
    seen = refused(shared_project, "-e", "django_replicas=many")
    assert "Nothing was touched. Mend this first:" in seen
    assert "django_replicas" in seen


def test_wrong_variable_shows_before_a_cluster_is_started(shared_project: Project) -> None:
    run = shared_project.run("site.yml", "-e", "django_replicas=0")
    assert run.returncode != 0
    assert "django_replicas: 0 is out of range" in run.stdout
    assert "PLAY [Cluster]" not in run.stdout


def test_all_findings_at_once(shared_project: Project) -> None:
    seen = refused(shared_project, "-e", "django_replicas=0", "-e", "storage_kind=nfs", "-e", "postgres_prot=1")
    assert "django_replicas: 0 is out of range" in seen
    assert "storage_kind" in seen
    assert "Did you mean postgres_port?" in seen


def test_vault_lacks_a_key(project: Project) -> None:
    project.write_vault(yaml.safe_dump({k: v for k, v in VAULT.items() if k != "vault_django_secret_key"}))
    seen = refused(project)
    assert "vault_django_secret_key is missing in group_vars/all/vault.yml" in seen
    assert "ansible-vault edit group_vars/all/vault.yml" in seen


def test_exporter_needs_a_key_that_older_vaults_lack(project: Project) -> None:
    project.write_vault(yaml.safe_dump(VAULT))
    seen = refused(project, "-e", "postgres_exporter=true")
    assert "secrets_postgres_exporter_password: is not set, and postgres_exporter needs it. Add" in seen
    project.write_vault(yaml.safe_dump(VAULT | {"vault_postgres_exporter_password": "it's"}))
    seen = refused(project, "-e", "postgres_exporter=true")
    assert "takes no other characters than letters, digits, and . _ ~ - in it." in seen


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("secret-with-newline\n", "secrets_postgres_app_password: begins or ends with white space or a newline"),
        ("", "secrets_postgres_app_password: is empty"),
    ],
)
def test_vault_has_a_bad_value(project: Project, value: str, message: str) -> None:
    project.write_vault(yaml.safe_dump(VAULT | {"vault_postgres_app_password": value}))
    seen = refused(project)
    assert message in seen
    assert "secret-with-newline" not in seen


def test_wrong_vault_password(project: Project) -> None:
    project.password.write_text("another one\n")
    seen = refused(project)
    assert "vault.yml" in seen
    assert "Decryption failed" in seen


def test_vault_is_not_readable_as_yaml(project: Project) -> None:
    project.write_vault("{broken: [\n")
    assert "vault.yml" in refused(project)


def test_no_kubeconfig(shared_project: Project) -> None:
    seen = refused(shared_project, "-e", "cluster_kubeconfig=/nonexistent/config")
    assert "there is no file /nonexistent/config" in seen
    assert "playbooks/cluster.yml" in seen


def write_kubeconfig(path: Path, server: str, name: str = "there") -> Path:
    """A kubeconfig with one context."""
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": name, "cluster": {"server": server}}],
                "users": [{"name": name, "user": {"token": "nothing"}}],
                "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            }
        )
    )
    return path


def test_unknown_context(shared_project: Project, tmp_path: Path) -> None:
    config = write_kubeconfig(tmp_path / "config", "https://127.0.0.1:9")
    seen = refused(shared_project, "-e", f"cluster_kubeconfig={config}", "-e", "cluster_context=elsewhere")
    assert "has no context 'elsewhere', only there. Set cluster_context to one of these" in seen


def test_no_cluster_answers(shared_project: Project, tmp_path: Path) -> None:
    config = write_kubeconfig(tmp_path / "config", "https://127.0.0.1:9")
    seen = refused(shared_project, "-e", f"cluster_kubeconfig={config}", "-e", "cluster_context=there")
    assert "No cluster answers at https://127.0.0.1:9 (context there)" in seen
    assert "Connection refused" in seen


def test_several_kubeconfigs(shared_project: Project, tmp_path: Path) -> None:
    """As kubectl takes KUBECONFIG: a file of the list may be missing, and any of them has the context."""
    here = write_kubeconfig(tmp_path / "here", "https://127.0.0.1:9", "here")
    there = write_kubeconfig(tmp_path / "there", "https://127.0.0.1:11")
    files = f"{here}:{tmp_path / 'missing'}:{there}"
    seen = refused(shared_project, "-e", f"site_kubeconfig={files}", "-e", "cluster_context=there")
    assert "No cluster answers at https://127.0.0.1:11 (context there)" in seen
    seen = refused(shared_project, "-e", f"site_kubeconfig={files}", "-e", "cluster_context=elsewhere")
    assert f"{here}:{there} has no context 'elsewhere', only here, there." in seen


def test_unknown_provider(shared_project: Project) -> None:
    run = shared_project.run("site.yml", "-e", "cluster_provider=docker-desktop")
    assert run.returncode != 0
    assert "cluster_provider: docker-desktop is not known. Set it to minikube or existing." in run.stdout


@pytest.mark.parametrize("namespace", ["default", "kube-system"])
def test_15_deploy_account_in_a_namespace_of_others(project: Project, namespace: str) -> None:
    """`default` is where a site on minikube is, unless told otherwise."""
    given = ["-e", f"site_namespace={namespace}"] if namespace != "default" else []
    run = project.run("playbooks/deploy_account.yml", *given)
    seen = " ".join((run.stdout + run.stderr).split())
    assert run.returncode != 0
    assert (
        "Nothing was touched: site_namespace: the deploy account would read the Secrets of everybody in namespace "
        f"{namespace}. Give the site a namespace of its own, such as -e site_namespace=kubernetes-django." in seen
    )


def test_deploy_account_in_a_namespace_of_its_own(project: Project) -> None:
    """It goes on, to the cluster that does not answer here."""
    run = project.run("playbooks/deploy_account.yml", "-e", "site_namespace=own")
    seen = run.stdout + run.stderr
    assert run.returncode != 0
    assert "Give the site a namespace of its own" not in seen
    assert "cluster_context" in seen or "kubeconfig" in seen
