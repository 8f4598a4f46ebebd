"""What people do: they release, rotate, back up, stop a run, start two, and change things by hand."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator

import pytest
from disturbance import disturbed
from scenario import begin, changed, items, kill, kubectl, playbook

pytestmark = pytest.mark.long

KILLS = 20
DEPLOYMENT, STATEFUL_SET = "deployment/kubernetes-django", "statefulset/postgres"
OTHER_PORT = [{"op": "replace", "path": "/spec/ports/0/port", "value": 81}]
# What somebody does by hand -> the objects that the next run says it put right. Each is done to a site that is well.
BY_HAND = {
    "the web pods' image, number and environment": (
        [
            ["set", "image", DEPLOYMENT, "django=localhost/nobody-has-this:1"],
            ["scale", DEPLOYMENT, "--replicas=1"],
            ["set", "env", DEPLOYMENT, "DJANGO_STATUS_DETAILS=false", "ADDED_BY_HAND=1"],
        ],
        ["Deployment/kubernetes-django"],
    ),
    "Services, one another port, one deleted": (
        [
            ["patch", "service/django-service", "--type=json", "-p", json.dumps(OTHER_PORT)],
            ["delete", "service/postgres-service"],
        ],
        ["Service/django-service", "Service/postgres-service"],
    ),
    "the database's memory and settings": (
        [
            ["set", "resources", STATEFUL_SET, "--limits=memory=600Mi"],
            ["patch", "configmap/postgres-config", "-p", json.dumps({"data": {"postgresql.conf": "work_mem = 1MB"}})],
        ],
        ["StatefulSet/postgres", "ConfigMap/postgres-config"],
    ),
    "Secrets deleted": (
        [["delete", "secret/postgres-credentials", "secret/django-settings", "secret/postgres-owner"]],
        ["Secret/postgres-credentials", "Secret/django-settings", "Secret/postgres-owner"],
    ),
    "a Secret with another password, and one key more": (
        [["patch", "secret/postgres-credentials", "-p", json.dumps({"stringData": {"password": "mine", "more": "1"}})]],
        ["Secret/postgres-credentials"],
    ),
    "Deployment, StatefulSet, budget and policies deleted": (
        [
            ["delete", DEPLOYMENT, STATEFUL_SET, "poddisruptionbudget/kubernetes-django"],
            ["delete", "networkpolicies", "--all"],
        ],
        ["Deployment/", "StatefulSet/postgres", "PodDisruptionBudget/kubernetes-django", "NetworkPolicy/"],
    ),
}


@pytest.fixture(autouse=True)
def deployed_again() -> Iterator[None]:
    """Whatever a test left, the site ends as the scenario deployed it."""
    yield
    changed(playbook("playbooks/deploy.yml"))


def feature(value: object) -> list[str]:
    """Variables of a release: another setting is another Job of migrations, and other pods."""
    settings = {"DJANGO_NOTES_WRITABLE": "true", "FEATURE": str(value)}
    return ["-e", json.dumps({"django_environment": settings})]


def test_19_a_days_work() -> None:
    with disturbed("19 10,000 requests during 2 releases, a rotation and a backup", rate=120) as cost:
        for name, *arguments in (
            ("playbooks/deploy.yml", *feature("morning")),
            ("playbooks/backup.yml",),
            ("playbooks/rotate_credentials.yml", *feature("morning")),
            ("playbooks/deploy.yml", *feature("evening")),
        ):
            run = playbook(name, *arguments)
            assert run.returncode == 0, run.stdout
        while len(cost.reader.requests) + len(cost.writer.requests) < 10_000:
            time.sleep(1)
        cost.ended = time.monotonic()
    assert cost.failed() == {}


def test_20_deploy_killed_at_20_random_moments() -> None:
    """Each begins another release than the one before, and finds what that one left; the last one is let live."""
    began = time.monotonic()
    changed(playbook("playbooks/deploy.yml", *feature("whole")))
    whole = time.monotonic() - began
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    moments = [chance.uniform(0.5, whole) for _ in range(KILLS)]
    with disturbed(f"20 deploy killed at {KILLS} random moments and run again") as cost:
        for number, moment in enumerate(moments):
            kill_after(moment, "playbooks/deploy.yml", *feature(number))
        assert changed(playbook("playbooks/deploy.yml", *feature(KILLS - 1))) >= 1
        cost.ended = time.monotonic()
    print(f"seed {seed}, a whole deploy {whole:.1f} s, killed after", *(f"{moment:.1f}" for moment in moments))
    assert cost.failed() == {}
    assert changed(playbook("playbooks/deploy.yml", *feature(KILLS - 1))) == 0


def test_21_two_deploys_at_once() -> None:
    with disturbed("21 two deploys at once") as cost:
        runs = [begin("playbooks/deploy.yml", *feature(name)) for name in ("left", "right")]
        outputs = [run.communicate()[0] for run in runs]
        cost.ended = time.monotonic()
    assert sorted(run.returncode != 0 for run in runs) == [False, True], outputs
    refused, went = sorted(range(2), key=lambda number: -runs[number].returncode)
    assert "Another run" in outputs[refused]
    assert "changed=0" in outputs[refused]
    assert cost.failed() == {}
    assert changed(playbook("playbooks/deploy.yml", *feature(("left", "right")[went]))) == 0


@pytest.mark.parametrize("what", BY_HAND)
def test_22_changed_by_hand(what: str) -> None:
    commands, named = BY_HAND[what]
    with disturbed(f"22 changed by hand: {what}") as cost:
        for command in commands:
            kubectl(*command)
        run = playbook("playbooks/deploy.yml")
        assert changed(run) >= 1
        cost.ended = time.monotonic()
    said = "".join(line for line in run.stdout.splitlines() if "Apply what differs" in line)
    assert [name for name in named if name not in said] == [], said
    container = items("deployments")[0]["spec"]["template"]["spec"]["containers"][0]
    assert "ADDED_BY_HAND" not in [variable["name"] for variable in container["env"]]
    assert changed(playbook("playbooks/deploy.yml")) == 0


def kill_after(seconds: float, *arguments: str) -> None:
    """Start a playbook, and end it and all that it started, as a lost machine would."""
    with begin(*arguments) as run:
        try:
            run.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            kill(run)
