"""What `ansible-playbook site.yml` promises, looked at from outside on a real cluster.

Molecule's verify gives the site's place in the environment and runs this with pytest.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest
import yaml
from programs import free_port, wait_for_port
from scenario import (
    NAME,
    NAMESPACE,
    NO_TIME_OUT,
    URL,
    ask,
    begin,
    begin_kubectl,
    changed,
    items,
    kubectl,
    playbook,
    pods_as_they_are,
    secret_values,
    wait_for,
)

# Everything that can hold a value, custom resources aside.
KINDS = "pods,services,endpoints,statefulsets,deployments,replicasets,jobs,configmaps,secrets,events,leases,pvc"


def test_page_answers() -> None:
    with urllib.request.urlopen(URL, timeout=10) as answer:
        page = answer.read().decode()
    assert answer.status == 200
    assert "System Status" in page
    assert "Operational" in page


def test_database_is_up_and_migrated() -> None:
    report = json.loads(ask("/api/status")[1])
    assert report["status"] == "operational"
    assert report["database"]["reachable"] is True
    assert report["migrations"]["pending"] == []
    assert report["migrations"]["applied"] == report["migrations"]["total"] > 0


def test_admin_and_metrics_are_not_public() -> None:
    """Neither by the node port: the admin by a port-forward, the metrics at the pod's own address."""
    for path in ("/admin/login/", "/metrics"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(path)
        assert refused.value.code == 404
    pod = items("pods", "-l", "app.kubernetes.io/component=web", "--field-selector=status.phase=Running")[0]
    place = pod["metadata"]["annotations"]
    url = f"http://{pod['status']['podIP']}:{place['prometheus.io/port']}{place['prometheus.io/path']}"
    read = f"import urllib.request as r; print(r.urlopen({url!r}, timeout=5).read().decode())"
    assert "site_up 1.0" in kubectl("exec", pod["metadata"]["name"], "-c", "django", "--", "python", "-c", read)
    port = free_port()
    with begin_kubectl("port-forward", "deployment/kubernetes-django", f"{port}:8011") as forward:
        try:
            wait_for_port("127.0.0.1", port, forward, Path("/dev/null"))
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/admin/login/", timeout=10) as answer:
                assert "Django administration" in answer.read().decode()
        finally:
            forward.terminate()


def test_objects_have_the_names_of_the_tutorial() -> None:
    found = items("pvc,secrets,statefulsets,deployments,services")
    names = {f"{item['kind']}/{item['metadata']['name']}" for item in found}
    assert {
        "PersistentVolumeClaim/postgres-pvc",
        "Secret/postgres-credentials",
        "StatefulSet/postgres",
        "Service/postgres-service",
        "Deployment/kubernetes-django",
        "Service/django-service",
    } <= names
    jobs = [job for job in items("jobs") if job["metadata"]["name"].startswith("django-migrations-")]
    assert [job["status"]["succeeded"] for job in jobs] == [1]


def test_namespace_enforces_restricted() -> None:
    namespace = json.loads(kubectl("get", "namespace", NAMESPACE, "-o", "json"))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        kubectl("run", "as-root", "--image=example.org/none", "--dry-run=server")
    assert "violates PodSecurity" in refused.value.stderr


def test_roles_in_the_database() -> None:
    """The app reads and writes rows; the schema is the owner's; over the network nobody gets in without a password."""

    def psql(user: str, password_file: str, sql: str) -> str:
        login = f"PGPASSWORD=$(cat {password_file}) psql -X -h 127.0.0.1 -U {user} -d kubernetes_django"
        command = f'{login} -Atc "{sql}"'
        return kubectl("exec", "postgres-0", "--", "sh", "-c", command)

    app = ("kube_boss", "/run/secrets/postgres-app/password")
    assert psql(*app, "select count(*) >= 0 from django_migrations") == "t\n"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        psql(*app, "create table public.mine (id int)")
    assert "permission denied for schema public" in refused.value.stderr
    owner = psql(*app, "select distinct tableowner from pg_tables where schemaname = 'public'")
    assert owner == "kubernetes_django_owner\n"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        psql("kube_boss", "/dev/null", "select 1")
    assert "no password supplied" in refused.value.stderr
    superuser = kubectl("exec", "postgres-0", "--", "psql", "-U", "postgres", "-Atc", "show data_checksums")
    assert superuser == "on\n"


def test_second_deploy_changes_nothing_keeps_rows_and_shows_no_secret() -> None:
    text = f"written before the second deploy {uuid.uuid4()}"
    assert ask("/api/notes", {"text": text})[0] == 201
    before = pods_as_they_are()
    run = playbook("playbooks/deploy.yml", "-vv", "--diff")
    assert changed(run) == 0
    assert pods_as_they_are() == before
    assert text in ask("/api/notes")[1]
    shown = run.stdout + run.stderr
    for name, value in secret_values().items():
        for form in (value, base64.b64encode(value.encode()).decode()):
            assert form not in shown, name


def test_no_secret_outside_the_secrets() -> None:
    """Not in an annotation, an environment, an argument, an event or a log; nor a hash to try passwords on."""
    everything = items(KINDS)
    for item in everything:
        if item["kind"] == "Secret":
            assert "kubectl.kubernetes.io/last-applied-configuration" not in item["metadata"].get("annotations", {})
            item.pop("data", None)
    text = json.dumps(everything)
    text += "".join(kubectl("logs", pod["metadata"]["name"], "--all-containers") for pod in items("pods"))
    assert "kube_boss" in text, "the search itself works"
    for name, value in secret_values().items():
        for form in (value, base64.b64encode(value.encode()).decode()):
            assert form not in text, name
    assert len(re.findall(r"[0-9a-f]{64}", text)) > 3, "there are checksums"
    for secret in items("secrets"):
        data = {key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}
        for each in (*data.values(), json.dumps(data, sort_keys=True)):
            assert hashlib.sha256(each.encode()).hexdigest() not in text, secret["metadata"]["name"]


def test_preflight_says_where_nobody_enforces_policies() -> None:
    """On the minikube of the tests that is so unless kube-router runs; no site is harmed by either."""
    routers = kubectl("get", "daemonsets", "--namespace=kube-system", "-o", "name")
    run = playbook("playbooks/preflight.yml")
    said = " ".join((run.stdout + run.stderr).split())
    assert run.returncode == 0, said
    sentence = "No network plugin that is known to enforce NetworkPolicies was found: unless one does, every pod"
    assert (sentence in said) == ("kube-router" not in routers)


def test_what_was_changed_by_hand_is_put_back() -> None:
    kubectl("scale", "deployment/kubernetes-django", "--replicas=1")
    assert changed(playbook("playbooks/deploy.yml")) == 1
    assert json.loads(kubectl("get", "deployment/kubernetes-django", "-o", "json"))["status"]["readyReplicas"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-e", "site_namespace=kube-system"], "site_namespace: kube-system runs pods that are not this site's"),
        (["-e", "site_name=another"], f"site_namespace: {NAMESPACE} belongs to the site {NAME}, not to another"),
        (
            [
                "-e",
                "site_namespace=molecule-2",
                "-e",
                "storage_volume=molecule-2-pv",
                "-e",
                "storage_path=/data/molecule-2-pv",
            ],
            f"django_node_port: 30801 is taken by the Service django-service in namespace {NAMESPACE}",
        ),
        (
            [
                "-e",
                "site_namespace=molecule-2",
                "-e",
                "django_node_port=30802",
                "-e",
                "storage_path=/data/molecule-2-pv",
            ],
            f"storage_volume: molecule-pv belongs to the claim {NAMESPACE}/postgres-pvc of the site {NAME}",
        ),
        (
            ["-e", "site_namespace=molecule-2", "-e", "django_node_port=30802", "-e", "storage_volume=molecule-2-pv"],
            "storage_path: /data/molecule-pv is already the directory of the volume molecule-pv",
        ),
        (["-e", "storage_size=5Gi"], "storage_size: the claim postgres-pvc has 2Gi and cannot become 5Gi"),
        (["-e", "storage_path=/data/elsewhere"], "storage_path: the volume molecule-pv is at /data/molecule-pv"),
    ],
)
def test_what_is_another_ones_is_refused(arguments: list[str], message: str) -> None:
    before = pods_as_they_are()
    run = playbook("playbooks/deploy.yml", *arguments)
    assert run.returncode != 0
    assert message in run.stdout
    assert "Nothing was touched" in run.stdout
    assert "changed=0" in run.stdout
    assert pods_as_they_are() == before


def test_class_that_is_not_there_is_refused() -> None:
    other = ["-e", "site_name=molecule-2", "-e", "site_namespace=molecule-2", "-e", "django_node_port=30802"]
    run = playbook("playbooks/deploy.yml", *other, "-e", "storage_kind=class", "-e", "storage_class=there-is-none")
    assert run.returncode != 0
    assert "storage_class: the cluster has no StorageClass there-is-none" in run.stdout
    assert "changed=0" in run.stdout


def test_user_without_rights_is_told_which(tmp_path: Path) -> None:
    kubectl("create", "serviceaccount", "nobody")
    try:
        config = yaml.safe_load(kubectl("config", "view", "--raw", "--minify"))
        config["users"][0]["user"] = {"token": kubectl("create", "token", "nobody").strip()}
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        run = playbook("playbooks/deploy.yml", "-e", f"cluster_kubeconfig={tmp_path / 'config'}")
    finally:
        kubectl("delete", "serviceaccount", "nobody")
    assert run.returncode != 0
    assert "cluster_context: the user of context" in run.stdout
    assert "may not get namespaces; get, list, create, patch, delete secrets; get, create, patch services" in run.stdout
    assert "changed=0" in run.stdout


def test_image_that_is_not_there_fails_soon_and_leaves_the_site() -> None:
    began = time.monotonic()
    run = playbook("playbooks/deploy.yml", "-e", "django_image=localhost/there-is-none:1")
    seconds = time.monotonic() - began
    assert run.returncode != 0
    assert seconds < NO_TIME_OUT, f"{seconds:.0f} s"
    cause = run.stdout[run.stdout.rindex("is not ready: ") :]
    assert "localhost/there-is-none:1" in cause
    assert "ImagePullBackOff" in cause
    assert ask("/api/status")[0] == 200
    assert changed(playbook("playbooks/deploy.yml")) == 0


def test_run_that_was_killed_converges_when_run_again() -> None:
    """Killed while its new pods start: its lease is given back all the same, and the next run finishes."""
    new = ["-e", json.dumps({"django_environment": {"DJANGO_NOTES_WRITABLE": "true", "ANYTHING": "new"}})]
    with begin("playbooks/deploy.yml", *new) as run:
        for line in run.stdout:
            if "PLAY [Django]" in line:
                time.sleep(1)
                run.kill()
    assert run.returncode != 0
    wait_for(lambda: items("leases") == [], 5)
    changed(playbook("playbooks/deploy.yml", *new))
    assert changed(playbook("playbooks/deploy.yml", *new)) == 0
    assert ask("/api/status")[0] == 200


@pytest.mark.parametrize("here", [True, False])
def test_directory_of_somebody_else_is_refused_and_left_alone(here: bool) -> None:
    """Seen on the node itself, by the playbook or by its Job, and no volume is made that could not be moved."""
    other = [
        "-e",
        "site_name=molecule-2",
        "-e",
        "site_namespace=molecule-2",
        "-e",
        "django_node_port=30802",
        "-e",
        "storage_volume=molecule-2-pv",
        "-e",
        "storage_path=/usr/share",
        "-e",
        json.dumps({"storage_node_is_here": here}),
    ]
    try:
        run = playbook("playbooks/deploy.yml", *other)
        assert run.returncode != 0
        assert "storage_path: /usr/share on the node is not empty and belongs to user 0, not 999" in run.stdout
        assert "molecule-2-pv" not in kubectl("get", "pv", "-o", "name")
    finally:
        again = playbook("playbooks/reset.yml", *other, "-e", "reset_data=true")
    assert again.returncode == 0, again.stdout
    assert not here or "no data deleted: storage_path /usr/share belongs to user 0" in again.stdout
    for _ in range(30):
        if "molecule-2" not in kubectl("get", "namespaces", "-o", "name"):
            break
        time.sleep(1)
    else:
        pytest.fail("the namespaces of molecule-2 are still there")
