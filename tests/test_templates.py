"""Every template gives manifests that the Kubernetes schema accepts, strictly, for several sets of variables."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from conftest import ROOT, Project
from rendered import load

KUBERNETES_VERSION = "1.35"
TEMPLATES = sorted(ROOT.glob("roles/*/templates/*.yaml.j2"))
SETS = sorted((ROOT / "tests" / "variables").glob("*.yml"))


@pytest.fixture(scope="module", params=SETS, ids=lambda path: path.stem)
def rendered(
    request: pytest.FixtureRequest, shared_project: Project, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict]]:
    """Name of each template -> its objects, for one set of variables."""
    out = tmp_path_factory.mktemp(request.param.stem)
    run = shared_project.run(
        "tests/render.yml",
        "-e",
        f"@{request.param}",
        "-e",
        f"out={out}",
        "-e",
        json.dumps({"templates": [str(path) for path in TEMPLATES]}),
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return {path.name: load(path) for path in out.glob("*.yaml")}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: f"{path.parent.parent.name}/{path.name}")
def test_schema_accepts(template: Path, rendered: dict[str, list[dict]]) -> None:
    items = rendered[template.name.removesuffix(".j2")]
    assert items
    for item in items:
        kubernetes_validate.validate(item, KUBERNETES_VERSION, strict=True)


def test_schema_refuses_a_misspelt_field(rendered: dict[str, list[dict]]) -> None:
    """The judge of the other tests is no yes-man."""
    broken = dict(rendered["django.deployment.yaml"][0], spce={})
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES_VERSION, strict=True)


def test_values_arrive_as_they_were(rendered: dict[str, list[dict]], request: pytest.FixtureRequest) -> None:
    """Quotes, colons and hashes in a value come through unchanged."""
    given = next(yaml.safe_load(path.read_text()) for path in SETS if path.stem in request.node.name)
    environment = {
        entry["name"]: entry.get("value")
        for entry in rendered["django.deployment.yaml"][0]["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    for name, value in given.get("django_environment", {}).items():
        assert environment[name] == str(value)


def pod_specs(rendered: dict[str, list[dict]]) -> dict[str, dict]:
    """Template -> pod spec, of those that run in the site's namespace."""
    specs = {name: item.get("spec", {}) for name, items in rendered.items() for item in items}
    specs = {name: spec.get("jobTemplate", {}).get("spec", spec) for name, spec in specs.items()}
    return {
        name: spec["template"]["spec"]
        for name, spec in specs.items()
        if "template" in spec and not name.startswith("directory.")
    }


def test_pods_are_restricted(rendered: dict[str, list[dict]]) -> None:
    """What Pod Security restricted asks for, and what the project asks for beyond it."""
    assert len(pod_specs(rendered)) >= 3
    for name, spec in pod_specs(rendered).items():
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"] + spec.get("initContainers", []):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            for kind in ("requests", "limits"):
                assert container["resources"][kind]["ephemeral-storage"], f"{name}: {container['name']}"


def all_pod_specs(item: object) -> list[dict]:
    """Every pod spec in an object, whatever it is of."""
    found = [item] if isinstance(item, dict) and "containers" in item else []
    inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return found + [spec for each in inner for spec in all_pod_specs(each)]


def test_every_pod_pulls_with_the_logins(rendered: dict[str, list[dict]], request: pytest.FixtureRequest) -> None:
    """Also the Job in a namespace of its own, which has copies of them."""
    given = next(yaml.safe_load(path.read_text()) for path in SETS if path.stem in request.node.name)
    names = given.get("site_pull_secrets", [])
    specs = {name: spec for name, items in rendered.items() for spec in all_pod_specs(items)}
    # Those of the templates, so that a new one is not forgotten for the way it is written.
    assert set(specs) >= {
        path.name.removesuffix(".j2")
        for path in TEMPLATES
        if re.search(r"containers['\"]?:|_backup_pod", path.read_text())
    }
    for name, spec in specs.items():
        assert [each["name"] for each in spec.get("imagePullSecrets", [])] == names, name
    namespace, *copies = rendered["directory.namespace.yaml"]
    assert [copy["metadata"]["name"] for copy in copies] == names
    for copy in copies:
        assert copy["metadata"]["namespace"] == namespace["metadata"]["name"]
        assert copy["type"] == "kubernetes.io/dockerconfigjson"
    if names:
        (made,) = rendered["registry.secret.yaml"]
        assert copies[0]["data"] == made["data"]
        logins = json.loads(base64.b64decode(made["data"][".dockerconfigjson"]))["auths"]
        for login in given["secrets_registry_logins"]:
            server = login["server"].replace("docker.io", "https://index.docker.io/v1/")
            together = f"{login['username']}:{login['password']}"
            assert base64.b64decode(logins[server]["auth"]).decode() == together


def test_no_secret_in_an_environment(rendered: dict[str, list[dict]]) -> None:
    """Secrets are files: an environment shows up in crash dumps and process lists."""
    for name, spec in pod_specs(rendered).items():
        for container in spec["containers"]:
            for variable in container.get("env", []):
                # The site's id is kept in a Secret, and is none.
                source = variable.get("valueFrom", {}).get("secretKeyRef", {"name": "site-id"})
                assert source["name"] == "site-id", name
                assert not re.search(r"(PASSWORD|KEY)$", variable["name"]), f"{name}: {variable['name']}"


def test_only_jobs_that_read_backups_have_the_key(
    rendered: dict[str, list[dict]], request: pytest.FixtureRequest
) -> None:
    """So a site makes encrypted backups without what opens them."""
    given = next(yaml.safe_load(path.read_text()) for path in SETS if path.stem in request.node.name)
    secret = given.get("postgres_backup_encryption_secret", "postgres-backup-encryption")
    having = {
        name: volume["secret"]
        for name, spec in pod_specs(rendered).items()
        for volume in spec["volumes"]
        if volume.get("secret", {}).get("secretName") == secret
    }
    # By hand: a restore in the one set, a backup in the other.
    assert set(having) == {"postgres-drill.cronjob.yaml"} | (
        set() if "storage_kind" in given else {"postgres-backup.job.yaml"}
    )
    assert all(volume["defaultMode"] == 0o440 and volume["optional"] for volume in having.values())
    for name, spec in pod_specs(rendered).items():
        mounts = [mount["name"] for each in spec["containers"] for mount in each["volumeMounts"]]
        assert ("identity" in mounts) == (name in having), name
    (made,) = rendered["identity.secret.yaml"]
    assert made["metadata"]["name"] == secret
    assert base64.b64decode(made["data"]["identity"]).decode() == given["secrets_backup_identity"]
    environment = pod_specs(rendered)["postgres-backup.cronjob.yaml"]["containers"][0]["env"]
    recipients = ",".join(given.get("postgres_backup_recipients", []))
    assert {"name": "RECIPIENTS", "value": recipients} in environment


def test_address_of_a_node_is_filled_in_by_kubernetes(rendered: dict[str, list[dict]]) -> None:
    """It knows a name only where it stands earlier in the list, so a node that changes changes no template."""
    seen = 0
    for name, spec in pod_specs(rendered).items():
        for container in spec["containers"] + spec.get("initContainers", []):
            names = [variable["name"] for variable in container.get("env", [])]
            if "DJANGO_ALLOWED_HOSTS" not in names:
                continue
            seen += 1
            assert names[0] == "NODE_IP", name
            hosts = container["env"][names.index("DJANGO_ALLOWED_HOSTS")]["value"].split(",")
            assert hosts[-2:] == ["$(NODE_IP)", "[$(NODE_IP)]"], name
            assert not any("192.0.2.1" in host or "2001:db8" in host for host in hosts), name
    assert seen >= 2


def test_server_admits_tls_only_unless_told_otherwise(rendered: dict[str, list[dict]]) -> None:
    """By pg_hba.conf and by its settings, which are quoted as PostgreSQL's configuration file wants it."""
    config = rendered["postgres-config.configmap.yaml"][0]["data"]
    if "ssl = 'on'" in config["postgresql.conf"]:
        assert "hostnossl all all all reject" in config["pg_hba.conf"]
        assert "shared_buffers = '128MB'" in config["postgresql.conf"]
    else:
        assert "hostssl" not in config["pg_hba.conf"]
        assert "shared_buffers = '512MB'" in config["postgresql.conf"]
        assert """search_path = '"$user", public'""" in config["postgresql.conf"]
        assert "fsync = 'on'" in config["postgresql.conf"]
    assert "trust" not in config["pg_hba.conf"]


def containers_of(deployment: dict) -> dict[str, dict]:
    """Name -> container, of the web pods."""
    return {container["name"]: container for container in deployment["spec"]["template"]["spec"]["containers"]}


def port_of(container: dict, name: str) -> int | None:
    """The number of a container's port with this name."""
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    return ports.get(name)


def test_users_come_to_nginx_and_probes_to_the_app(
    rendered: dict[str, list[dict]], request: pytest.FixtureRequest
) -> None:
    """A busy nginx must not have the pod killed; it ends before the app, which serves what is left."""
    deployment = rendered["django.deployment.yaml"][0]
    containers = containers_of(deployment)
    app, proxy = containers["django"], containers["proxy"]
    assert [port["targetPort"] for port in rendered["django.service.yaml"][0]["spec"]["ports"]] == ["http"]
    assert (port_of(app, "http"), port_of(proxy, "app")) == (None, None)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert port_of(app, app[probe]["httpGet"]["port"]), probe
    assert proxy["lifecycle"]["preStop"]["sleep"]["seconds"] < app["lifecycle"]["preStop"]["sleep"]["seconds"]
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    listening = f"listen {port_of(proxy, 'http')} backlog"
    assert listening in annotations["kubernetes-django/nginx.conf"]
    assert annotations["prometheus.io/port"] == str(port_of(proxy, "metrics"))
    # Processes that serve nothing have none.
    for other in rendered["django.deployment.yaml"][1:]:
        assert list(containers_of(other)) == ["django"]


def test_without_nginx_users_come_to_the_app(shared_project: Project, tmp_path: Path) -> None:
    template = ROOT / "roles/django/templates/django.deployment.yaml.j2"
    given = {"django_proxy": False, "out": str(tmp_path), "templates": [str(template)]}
    run = shared_project.run("tests/render.yml", "-e", f"@{SETS[0]}", "-e", json.dumps(given))
    assert run.returncode == 0, run.stdout + run.stderr
    deployment = next(yaml.safe_load_all((tmp_path / "django.deployment.yaml").read_text()))
    (app,) = containers_of(deployment).values()
    assert port_of(app, "http") == 8000
    assert app["livenessProbe"]["httpGet"]["port"] == "http"
    assert app["lifecycle"]["preStop"]["sleep"]["seconds"] == 10
    names = {volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert not {"proxy", "proxy-config"} & names


def test_restore_knows_its_job(rendered: dict[str, list[dict]]) -> None:
    """By the label that each of its pods has: one that comes after another that was killed knows that one's note."""
    for name, spec in pod_specs(rendered).items():
        for container in spec["containers"]:
            sources = {each["name"]: each.get("valueFrom", {}).get("fieldRef") for each in container.get("env", [])}
            restores = name == "postgres-backup.job.yaml" and container["name"] == "restore"
            path = sources.get("RUN") and sources["RUN"]["fieldPath"]
            assert path == ("metadata.labels['batch.kubernetes.io/controller-uid']" if restores else None), name


def test_app_knows_what_is_scheduled(rendered: dict[str, list[dict]], request: pytest.FixtureRequest) -> None:
    """Else its page takes no note for no backup wanted."""
    given = next(yaml.safe_load(path.read_text()) for path in SETS if path.stem in request.node.name)
    entries = pod_specs(rendered)["django.deployment.yaml"]["containers"][0]["env"]
    for what in ("backup", "drill"):
        told = {"name": f"{what.upper()}_SCHEDULED", "value": "true"} in entries
        assert told == bool(given.get(f"postgres_{what}_schedule")), what
