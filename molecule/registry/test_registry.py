"""From a private registry: push, pull with a login, digests, official names; and what a user sees when one is wrong.

The tests go on from each other, as a user does who sets this up.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest
import registry
from registry import ADDRESS, NGINX, OFFICIAL, PASSWORD, POSTGRES, USER
from scenario import NAMESPACE, ask, changed, items, kubectl, playbook, pods_as_they_are, wait_for, web_pods

LOGIN = {"username": USER, "password": PASSWORD}
# It stands for the mirror, which containerd asks in Docker Hub's name.
HUB = LOGIN | {"server": "docker.io"}
OPTIONS = {
    "image_builder": "buildah",
    "image_source": "registry",
    "image_registry": f"{ADDRESS}/team",
    "image_cache": str(registry.FOLDER / "cache"),
    # As a vault has them.
    "vault_registry_logins": [LOGIN | {"server": ADDRESS}, HUB],
}


@pytest.fixture(scope="module", autouse=True)
def real_registry() -> Iterator[None]:
    """The registry, while these tests run."""
    registry.remove(registry.FOLDER)
    os.environ.update(registry.ENVIRONMENT)
    with registry.running():
        yield


def run(name: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """Run a playbook with OPTIONS and these variables."""
    return playbook(name, "-e", json.dumps(OPTIONS | variables))


def deploy(**variables: object) -> subprocess.CompletedProcess[str]:
    """Deploy the site; the registry has its images."""
    return run("playbooks/deploy.yml", **variables)


def refused(done: subprocess.CompletedProcess[str], *sentences: str) -> str:
    """Check that a playbook failed with these words; return all that it says."""
    seen = " ".join((done.stdout + done.stderr).split()).replace("''", "'")
    assert done.returncode != 0, seen
    assert "Traceback" not in seen, seen
    assert PASSWORD not in seen
    for sentence in sentences:
        assert sentence in seen, f"{sentence!r} is not in {seen}"
    return seen


def web_image() -> str:
    """The image that the site runs."""
    (deployment,) = items("deployments", "-l", "app.kubernetes.io/component=web")
    return deployment["spec"]["template"]["spec"]["containers"][0]["image"]


def test_bases_from_debian_packages_are_pushed() -> None:
    """A registry and no Docker Hub: all images go there; and so the official names get something to stand for."""
    registry.trust(registry.BUILDERS)
    registry.login(PASSWORD)
    cache = registry.FOLDER / "cache"
    cache.mkdir()
    # What the packages' part of the bases takes is made already.
    for tar in (registry.programs.CACHE / "images").glob("*.tar"):
        shutil.copy(tar, cache)
    done = run("playbooks/image.yml", image_source="debian")
    assert done.returncode == 0, done.stdout + done.stderr
    ours = "team/kubernetes-django"
    assert registry.repositories() == [ours, f"{ours}-nginx", f"{ours}-postgres"]
    assert changed(run("playbooks/image.yml", image_source="debian")) == 0
    names = buildah_images()
    for part, official in OFFICIAL.items():
        (made,) = [name for name in names if f"kubernetes-django-{part}:" in name]
        registry.buildah("push", "--quiet", made, f"docker://{official.replace('docker.io', f'{ADDRESS}/hub')}")
    registry.buildah("rmi", "--all", "--force")


def buildah_images() -> list[str]:
    """Names of the images in the builder's store."""
    return [
        name for name in registry.buildah("images", "--format", "{{.Name}}:{{.Tag}}").split() if "<none>" not in name
    ]


def test_the_builder_does_not_know_the_ca() -> None:
    for official in OFFICIAL.values():
        registry.buildah("pull", "--quiet", official)
    shutil.rmtree(registry.BUILDERS)
    refused(
        run("playbooks/image.yml"),
        "x509: certificate signed by unknown authority",
        f"image_registry: {ADDRESS}/team/kubernetes-django:sha-",
        f"buildah does not trust the certificate of {ADDRESS}. Put its CA's certificate, PEM, into"
        f" /etc/containers/certs.d/{ADDRESS}/ca.crt",
    )


def test_the_builder_has_a_wrong_login() -> None:
    """Where the sentence before said, the certificate is found."""
    registry.trust(registry.BUILDERS)
    registry.login("wrong")
    refused(
        run("playbooks/image.yml"),
        f"{ADDRESS} wants a login, or another one, and `buildah login {ADDRESS}` gives it one",
    )
    registry.login(PASSWORD)


def test_a_pull_secret_that_is_not_there() -> None:
    kubectl("create", "namespace", NAMESPACE)
    refused(
        deploy(site_pull_secrets=["mine"]),
        "Nothing was touched. Mend this first:",
        f"site_pull_secrets: there is no Secret mine in namespace {NAMESPACE}. Make it: `kubectl --namespace"
        f" {NAMESPACE} create secret docker-registry mine",
    )


def test_a_pull_secret_of_another_type() -> None:
    kubectl("create", "secret", "generic", "mine", "--from-literal=password=x")
    refused(
        deploy(site_pull_secrets=["mine"]),
        "Nothing was touched. Mend this first:",
        f"site_pull_secrets: the Secret mine in namespace {NAMESPACE} is of type Opaque, and logins to registries are"
        " read from kubernetes.io/dockerconfigjson alone.",
    )
    kubectl("delete", "secret", "mine")


def test_the_first_deploy_has_no_login() -> None:
    """Nobody said that the registry wants one. The next test goes on from here."""
    refused(deploy(vault_registry_logins=[]), "ErrImagePull", POSTGRES, "401 Unauthorized")


def test_deploy() -> None:
    """Built on the official Python, pushed, and pulled by containerd with the vault's login; PostgreSQL's as well."""
    done = deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    assert ask("/api/status")[0] == 200
    pods = items("pods")
    images = {container["image"] for pod in pods for container in pod["spec"]["containers"]}
    assert images == {POSTGRES, NGINX, web_image()}
    assert web_image().startswith(f"{ADDRESS}/team/kubernetes-django:sha-")
    assert {each["name"] for pod in pods for each in pod["spec"]["imagePullSecrets"]} == {"registry-login"}
    pulled = [event["message"] for event in items("events") if event["reason"] == "Pulled"]
    for image in images:
        assert any(message.startswith(f'Successfully pulled image "{image}"') for message in pulled), pulled
    (secret,) = [each for each in items("secrets") if each["metadata"]["name"] == "registry-login"]
    assert secret["type"] == "kubernetes.io/dockerconfigjson"


def test_second_run_changes_nothing() -> None:
    before = pods_as_they_are()
    assert changed(deploy()) == 0
    assert pods_as_they_are() == before


def test_by_digest() -> None:
    """A release of what is pushed already needs nothing that builds."""
    reference = registry.digest(web_image())
    done = deploy(django_image=reference, image_builder="podman")
    assert done.returncode == 0, done.stdout + done.stderr
    assert web_image() == reference
    assert ask("/api/status")[0] == 200


def fails_to_pull(reference: str, **variables: object) -> None:
    """A deploy whose image cannot be pulled says so soon, last of all; the release before it serves on."""
    before = {pod["metadata"]["name"] for pod in web_pods()}
    began = time.monotonic()
    done = deploy(django_image=reference, **variables)
    seen = refused(done, "ErrImagePull", reference, "401 Unauthorized")
    print(f"failed after {time.monotonic() - began:.0f} s:", seen[-1500:])
    assert "ErrImagePull" in " ".join(done.stdout.partition("PLAY RECAP")[0].split())[-3000:]
    wait_for(lambda: {pod["metadata"]["name"] for pod in web_pods()} == before, 30)
    assert ask("/api/status")[0] == 200


def test_a_login_to_another_registry_alone() -> None:
    fails_to_pull(registry.call(tag_of_site(), "unknown"), vault_registry_logins=[HUB])


def tag_of_site() -> str:
    """The site's image by the tag that it was built with."""
    listed = json.loads(registry.ask("GET", "team/kubernetes-django/tags/list")[0])["tags"]
    return f"{ADDRESS}/team/kubernetes-django:{next(tag for tag in sorted(listed) if tag.startswith('sha-'))}"


def test_a_wrong_password() -> None:
    """It reaches the cluster, is refused, and the right one mends it."""
    reference = registry.call(tag_of_site(), "wrong")
    fails_to_pull(reference, vault_registry_logins=[LOGIN | {"server": ADDRESS, "password": "wrong"}, HUB])
    done = deploy(django_image=reference)
    assert done.returncode == 0, done.stdout + done.stderr
    assert web_image() == reference


def test_a_secret_of_somebody_else() -> None:
    """Made by hand, or by a controller; the vault has no login."""
    # For both registries: the database restarts with it, and kubelet lets no pod have an image that it could not pull.
    logins = {server: {"username": USER, "password": PASSWORD} for server in (ADDRESS, "https://index.docker.io/v1/")}
    text = json.dumps({"auths": logins})
    secret = ("create", "secret", "generic", "mine", "--type=kubernetes.io/dockerconfigjson")
    kubectl(*secret, f"--from-literal=.dockerconfigjson={text}")
    reference = registry.call(tag_of_site(), "mine")
    done = deploy(django_image=reference, vault_registry_logins=[], site_pull_secrets=["mine"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert web_image() == reference
    assert [pod["spec"]["imagePullSecrets"] for pod in web_pods()] == [[{"name": "mine"}]] * len(web_pods())
