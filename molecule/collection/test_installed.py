"""A site that is deployed from an installed collection, in a folder of its own, and by roles in plays of one's own."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from scenario import NAME, NAMESPACE, PLACE, URL, ask, items, kubectl, sql
from somebody import Home

PLAY = """
- hosts: sites
  roles:
    - kubernetes_django.site.ROLE
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The folder after init and a deploy, on this user's minikube; what this user has built is not built again."""
    theirs = {"XDG_CACHE_HOME": ".cache", "MINIKUBE_HOME": ""}
    place = {name: os.environ.get(name) or str(Path.home() / folder) for name, folder in theirs.items()}
    place["KUBECONFIG"] = os.environ["SITE_KUBECONFIG"]
    home = Home(tmp_path_factory.mktemp("collection"), **place)
    (home.folder / "group_vars" / "all").mkdir(parents=True)
    (home.folder / "group_vars" / "all" / "place.yml").write_text(PLACE)
    home.play("kubernetes_django.site.init")
    said = home.play("kubernetes_django.site.deploy")
    assert f"The site answers at {URL}/" in said
    return home


def alone(home: Home, role: str, *arguments: str) -> str:
    """Run one role in a play of its own, which looks at the cluster by itself; return what it prints."""
    (home.folder / f"{role}.yml").write_text(PLAY.replace("ROLE", role))
    return home.play(f"{role}.yml", *arguments)


def test_site_answers(home: Home) -> None:
    status, _ = ask("/")
    assert status == 200


def test_second_deploy_changes_nothing(home: Home) -> None:
    assert "changed=0" in home.play("kubernetes_django.site.deploy")


def test_verbs_that_look(home: Home) -> None:
    assert re.search(rf"Site {NAME} in namespace {NAMESPACE}:", home.play("kubernetes_django.site.status"))
    assert "live" in home.play("kubernetes_django.site.releases")


def test_storage_alone(home: Home) -> None:
    assert "changed=0" in alone(home, "storage")


def test_secrets_alone(home: Home) -> None:
    kubectl("delete", "secret", "postgres-backup-signing")
    assert "changed=0" not in alone(home, "secrets")
    assert [each for each in items("secret") if each["metadata"]["name"] == "postgres-backup-signing"]
    assert "changed=0" in alone(home, "secrets")


def test_postgres_alone(home: Home) -> None:
    """What it runs is all that it has to be told."""
    pod = items("statefulset")[0]["spec"]["template"]["spec"]
    told = ["-e", f"postgres_image={pod['containers'][0]['image']}"]
    assert "changed=0" in alone(home, "postgres", *told)
    settings = json.dumps({"postgres_settings": {"log_min_duration_statement": "5s"}})
    assert "changed=0" not in alone(home, "postgres", *told, "-e", settings)
    assert sql("show log_min_duration_statement").strip() == "5s"


def test_django_alone(home: Home) -> None:
    """What it runs is all that it has to be told."""
    pods = items("deployment")[0]["spec"]["template"]["spec"]["containers"]
    images = {each["name"]: each["image"] for each in pods}
    told = ["-e", f"django_proxy_image={images.pop('proxy')}", "-e", f"django_image={images.popitem()[1]}"]
    assert "changed=0" in alone(home, "django", *told)
    assert "changed=0" not in alone(home, "django", *told, "-e", "django_replicas=1")
    assert items("deployment")[0]["spec"]["replicas"] == 1
