"""A Wagtail site from PyPI, taken through build, deploy, release and rollback by variables alone; and what it asks for.

Molecule's verify gives the site's place in the environment and runs this with pytest.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request

from scenario import NAMESPACE, ROOT, URL, changed, items, kubectl, playbook, pods_as_they_are, web_pods
from traffic import Reader

VARIABLES = f"@{ROOT / 'molecule' / 'project' / 'vars' / 'project.yml'}"


def deploy(**variables: object) -> subprocess.CompletedProcess[str]:
    """Deploy with the project's variables, and these over them."""
    return playbook("playbooks/deploy.yml", "-e", VARIABLES, "-e", json.dumps(variables))


def deployment(name: str = "kubernetes-django") -> dict:
    """A Deployment as it is."""
    return json.loads(kubectl("get", "deployment", name, "-o", "json"))


def image_of(name: str) -> str:
    """The image that a Deployment runs."""
    return deployment(name)["spec"]["template"]["spec"]["containers"][0]["image"]


def manage(code: str) -> str:
    """Run Python in the project, in a web pod."""
    return kubectl("exec", "deployment/kubernetes-django", "--", "python", "manage.py", "shell", "-c", code)


def test_pages_answer() -> None:
    """The home page is rendered from the database, and whoever edits finds the door."""
    for path, text in (("/", "Welcome to your new Wagtail site!"), ("/admin/login/", "Sign in")):
        with urllib.request.urlopen(f"{URL}{path}", timeout=10) as answer:
            assert text in answer.read().decode()


def test_worker_does_what_the_web_pods_put_into_the_queue() -> None:
    """One process hands the other work through the database: both have the same login and settings."""
    print(
        manage(
            "import time\n"
            "from wagtail.models import Page\n"
            "from django_tasks_db.models import DBTaskResult\n"
            "before = DBTaskResult.objects.count()\n"
            "Page.objects.last().save()\n"
            "assert DBTaskResult.objects.count() > before, 'the queue is the database'\n"
            "end = time.monotonic() + 20\n"
            "while DBTaskResult.objects.exclude(status='SUCCESSFUL').exists() and time.monotonic() < end:\n"
            "    time.sleep(0.2)\n"
            "assert not DBTaskResult.objects.exclude(status='SUCCESSFUL').exists(), 'nobody did it'\n"
        )
    )


def test_release_with_a_migration_and_back() -> None:
    """Nobody notices; the worker comes along, after the migration; the older image serves on the newer schema."""
    old = image_of("kubernetes-django")
    tables = "from django.db import connection; print(*connection.introspection.table_names())"
    with Reader(URL, rate=10) as reader:
        assert changed(deploy(image_build_args={"EXTRA_APPS": "wagtail.contrib.search_promotions"})) > 0
    print(f"release: {reader.figures()}")
    assert reader.failures == []
    new = image_of("kubernetes-django")
    assert image_of("kubernetes-django-worker") == new != old
    assert "wagtailsearchpromotions_query" in manage(tables)
    worker = items("pods", "-l", "app.kubernetes.io/component=worker")[-1]
    jobs = [job for job in items("jobs") if job["spec"]["template"]["spec"]["containers"][0]["image"] == new]
    assert len(jobs) == 3
    assert worker["metadata"]["creationTimestamp"] >= max(job["status"]["completionTime"] for job in jobs)

    with Reader(URL, rate=10) as reader:
        refused = playbook("playbooks/rollback.yml", "-e", VARIABLES)
        run = playbook("playbooks/rollback.yml", "-e", VARIABLES, "-e", "rollback_force=true")
    # The app's migrations were not written for this, and only whoever knows the app can say that they do no harm.
    assert refused.returncode != 0
    assert "may not work with wagtailsearchpromotions.0005_switch_query_model" in refused.stdout
    assert run.returncode == 0, run.stdout + run.stderr
    print(f"rollback: {reader.figures()}")
    assert reader.failures == []
    assert image_of("kubernetes-django-worker") == image_of("kubernetes-django") == old


def test_failing_hook_stops_the_deploy_with_its_log() -> None:
    pods, generation = pods_as_they_are(), deployment()["metadata"]["generation"]
    began = time.monotonic()
    run = deploy(django_before_migrate=[["sh", "-c", "echo what the hook said; exit 3"]])
    print(f"failing hook: the play failed after {time.monotonic() - began:.1f} s")
    assert run.returncode != 0
    assert "Its last words: what the hook said" in run.stdout
    assert deployment()["metadata"]["generation"] == generation
    assert {name: count for name, count in pods_as_they_are().items() if "before-migrate" not in name} == {
        name: count for name, count in pods.items() if "before-migrate" not in name
    }


def test_process_that_crashes_takes_the_release_back() -> None:
    """The web pods of the release were good: they go back as well, for one release is one image in all places."""
    before = {name: image_of(name) for name in ("kubernetes-django", "kubernetes-django-worker")}
    worker = {"name": "worker", "command": ["python", "-c", "raise SystemExit('no queue is to be had')"]}
    with Reader(URL, rate=10) as reader:
        run = deploy(django_processes=[worker], image_build_args={"EXTRA_APPS": "wagtail.contrib.search_promotions"})
    assert run.returncode != 0
    assert "Deployment kubernetes-django-worker is not ready" in run.stdout
    assert "Its last words: no queue is to be had" in run.stdout
    assert reader.failures == []
    assert {name: image_of(name) for name in before} == before
    changed(deploy())
    assert changed(deploy()) == 0


def test_autoscaler_has_the_number_of_pods_for_itself() -> None:
    """From the moment it is switched on, a deploy changes nothing about it; switched off, the number is ours again."""
    autoscaler = {"minimum": 2, "maximum": 4}
    before = pods_as_they_are()
    assert changed(deploy(django_autoscaler=autoscaler)) > 0
    assert pods_as_they_are() == before
    # As the autoscaler does it, through the same subresource.
    kubectl("scale", "deployment/kubernetes-django", "--replicas=3")
    kubectl("rollout", "status", "deployment/kubernetes-django", "--timeout=180s")
    assert changed(deploy(django_autoscaler=autoscaler)) == 0
    assert deployment()["spec"]["replicas"] == 3
    assert changed(deploy()) == 2
    assert items("horizontalpodautoscalers") == []
    assert deployment()["spec"]["replicas"] == 2


def evict(pod: dict) -> str:
    """Ask for what a drain does to a pod; return what the API server says."""
    name = pod["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction"
    try:
        return kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    except subprocess.CalledProcessError as error:
        return error.stderr


def test_drain_gets_through_one_pod_after_the_other() -> None:
    """The budget makes a drain wait until the pod before is replaced, and then lets it go on."""
    with Reader(URL, rate=10) as reader:
        kubectl("rollout", "status", "deployment/kubernetes-django", "--timeout=180s")
        first, second = web_pods()
        assert "Success" in evict(first)
        assert "Cannot evict pod as it would violate the pod's disruption budget" in evict(second)
        kubectl("rollout", "status", "deployment/kubernetes-django", "--timeout=180s")
        end = time.monotonic() + 60
        while "Success" not in evict(second):
            assert time.monotonic() < end
            time.sleep(0.5)
        kubectl("rollout", "status", "deployment/kubernetes-django", "--timeout=180s")
    print(f"both web pods evicted: {reader.figures()}")
    assert reader.failures == []


def test_one_pod_has_no_budget_in_the_way_of_a_drain() -> None:
    assert changed(deploy(django_replicas=1)) == 2
    assert items("poddisruptionbudgets") == []


def test_process_that_leaves_the_list_goes() -> None:
    assert changed(deploy(django_processes=[])) > 0
    assert [each["metadata"]["name"] for each in items("deployments")] == ["kubernetes-django"]
    assert changed(deploy(django_processes=[])) == 0
