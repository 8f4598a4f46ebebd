"""The tasks of an upgrade that goes wrong, by Ansible itself; what they would do in a cluster is noted."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

pytestmark = pytest.mark.servers

# Stands in for every module of kubernetes.core: notes what it was asked for, and gives the answer that was set for it.
MODULE = """
import json, os
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        call = json.dumps({"task": self._task.name} | self._task.args)
        with open(os.environ["CALLS"], "a") as calls:
            calls.write(call + "\\n")
        answers = json.loads(os.environ["ANSWERS"])
        return {"changed": False} | next((answer for text, answer in answers.items() if text in call), {})
"""
SITE = {
    "wait": [{"kubernetes.core.k8s_info": {"kind": "wait", "name": "{{ site_wait_for[0].name }}"}}],
    "apply": [
        {"kubernetes.core.k8s": {"kind": "apply", "name": "{{ site_apply_wait[0].name }}"}},
        {"ansible.builtin.set_fact": {"__site_waited": {"logs": ["copied"]}}},
    ],
}
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: kubernetes_django.site.postgres, tasks_from: "{{ entry }}"}
"""
SERVER = {"spec": {"template": {"spec": {"containers": [{"name": "postgres", "image": "site:15"}]}}}}
OLD = {"image": "site:15", "claim": "data"}
FACTS = {
    "site_kubeconfig": "none",
    "site_context": "none",
    "site_namespace": "site",
    "site_name": "site",
    "site_wait_timeout": 10,
    "postgres_image": "site:17",
}
DATA = {"label": "kubernetes-django/data-of", "alone": "kubernetes-django/not-copied", "suffix": "", "others": []}
UPGRADE = {
    "running": True,
    "wanted": 17,
    "found": 15,
    "old": OLD,
    "claim": "data-17",
    "suffix": "-17",
    "annotation": "upgraded-from",
    "switched": False,
    "unfinished": False,
    "opened": False,
    "closed": False,
    "jobs": [],
    "volume": dict.fromkeys(("prepared", "released", "current", "grows", "namespace_left"), False),
}


class Upgrade:
    """Ansible with the role, and with stand-ins for the roles and modules that it calls."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        collections = folder / "collections" / "ansible_collections"
        modules = collections / "kubernetes" / "core" / "plugins" / "action"
        ours = collections / "kubernetes_django" / "site"
        roles = ours / "roles"
        for path in (modules, roles / "site" / "tasks", roles / "storage" / "tasks"):
            path.mkdir(parents=True)
        for name in ("k8s", "k8s_exec", "k8s_info"):
            (modules / f"{name}.py").write_text(MODULE)
        (ours / "plugins").symlink_to(ROOT / "plugins")
        (roles / "storage" / "tasks" / "main.yml").write_text("[]")
        for name, tasks in SITE.items():
            (roles / "site" / "tasks" / f"{name}.yml").write_text(json.dumps(tasks))
        (roles / "postgres").symlink_to(ROOT / "roles" / "postgres")
        (folder / "play.yml").write_text(PLAY)
        (folder / "ansible.cfg").write_text("[defaults]\n")

    def run(
        self,
        *options: str,
        answers: dict[str, Any] | None = None,
        entry: str = "upgrade",
        others: tuple[dict[str, Any], ...] = (),
        **found: Any,
    ) -> str:
        """Run it where preflight found this of the upgrade, and these other volumes; return what a user sees."""
        self.calls.write_text("")
        state = {"upgrade": UPGRADE | found, "data": DATA | {"others": others}, "jobs": {"failed": [], "completed": []}}
        variables = FACTS | {"entry": entry, "site_state": state}
        environment = {
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "CALLS": str(self.calls),
            "ANSWERS": json.dumps({"Look at the server": {"resources": [SERVER]}} | (answers or {})),
        }
        program = [ROOT / ".venv" / "bin" / "ansible-playbook", "-i", "localhost,", "-c", "local"]
        run = subprocess.run(
            [*program, "-e", json.dumps(variables), *options, self.folder / "play.yml"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return " ".join((run.stdout + run.stderr).split())

    def done(self) -> list[str]:
        """What was done, in this order, a word or two for each."""
        return [self.word(json.loads(line)) for line in self.calls.read_text().splitlines()]

    @staticmethod
    def word(call: dict[str, Any]) -> str:
        """A call in short."""
        name = call.get("name", "")
        if call.get("state") == "absent":
            return f"stop {call['kind']} {name}".strip()
        return f"{call['kind']} {name}" if call.get("kind") in ("apply", "wait") else call["task"].partition(" | ")[2]


@pytest.fixture
def upgrade(tmp_path: Path) -> Upgrade:
    return Upgrade(tmp_path)


OPEN = "Let everybody in again"
ASK = "Ask whether the databases are still closed"


def test_2_copy_of_databases_that_are_open_is_not_switched_to(upgrade: Upgrade) -> None:
    """The old server serves on; no Job runs any more when its databases are opened."""
    said = upgrade.run(answers={ASK: {"stdout": "the site, another\n"}})
    assert "Somebody has opened since they were copied, or made: the site, another. What was written there" in said
    assert "Nothing was lost: the old server serves again, with its data as it was (claim data)." in said
    done = upgrade.done()
    after = done[done.index(ASK) + 1 :]
    assert after[0].startswith("stop Job postgres-upgrade-"), after
    assert after[1] == "stop Pod"
    assert OPEN in after[2:]
    switched = [json.loads(line) for line in upgrade.calls.read_text().splitlines() if "the other image" in line]
    assert [each["definition"]["spec"]["template"]["spec"]["volumes"] for each in switched] == [
        [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    ]


def test_2_databases_stay_closed_where_the_job_does_not_end(upgrade: Upgrade) -> None:
    answers = {ASK: {"stdout": "the site\n"}, "Delete the Job and its pods": {"failed": True, "msg": "timed out"}}
    said = upgrade.run(answers=answers, closed=True)
    assert "does not end (timed out), so what it does may still happen." in said, said
    assert OPEN not in upgrade.done()


@pytest.mark.parametrize(("closed", "stopped"), [(True, False), (False, True)])
def test_2_job_that_runs_is_waited_for_only_while_nobody_writes(upgrade: Upgrade, closed: bool, stopped: bool) -> None:
    """One of another image, which has the new volume, is not waited for at all."""
    upgrade.run(answers={ASK: {"stdout": "the site\n"}}, closed=closed, jobs=["another"])
    done = upgrade.done()
    (run,) = [place for place, each in enumerate(done) if each.startswith("apply ")]
    before = {each for each in done[:run] if each.startswith("stop Job ")}
    assert before - {"stop Job another"} == ({done[run].replace("apply", "stop Job")} if stopped else set())
    assert "stop Job another" in before


def test_check_mode_changes_nothing_in_a_pod(upgrade: Upgrade) -> None:
    """Its databases may be those of an upgrade that is under way."""
    said = upgrade.run("--check", answers={"apply": {"failed": True, "msg": "no"}}, closed=True)
    assert "no Nothing was lost" in said, said
    assert not {OPEN, ASK} & set(upgrade.done())


def test_upgrade_that_is_not_wanted_any_more_is_given_up(upgrade: Upgrade) -> None:
    upgrade.run(entry="upgrade_back", switched=True, jobs=["another"], closed=True)
    done = upgrade.done()
    assert done[2:4] == ["stop Job another", "stop Pod"]
    assert done[4] == OPEN
    assert not any("the other image" in each for each in done)
    assert "Label the claim that has the data" not in done


def test_2_claim_that_was_labelled_and_not_switched_to_is_not_taken_for_the_data(upgrade: Upgrade) -> None:
    """After a reset the label says where the data is."""
    upgrade.run(entry="upgrade_back", others=(other(claim="data-17", labelled=True),), switched=True)
    calls = [json.loads(line) for line in upgrade.calls.read_text().splitlines() if "Label the claim" in line]
    labels = {each["name"]: each["definition"]["metadata"]["labels"]["kubernetes-django/data-of"] for each in calls}
    assert labels == {"data": "site", "data-17": None}


def other(**more: Any) -> dict[str, Any]:
    """What preflight found of a volume that an upgrade left."""
    return {"suffix": "", "claim": "data", "volume": {"prepared": True}, "alone": "", "labelled": False} | more


KEPT = {"alone": "database the site_kept_20260101T000000Z, directory pgdata.original"}


@pytest.mark.parametrize(
    ("volume", "running", "forget", "said"),
    [
        ({}, True, False, ""),
        (KEPT, True, True, ""),
        (
            KEPT,
            True,
            False,
            f"Claim data alone has what restores have kept of the data from before them: {KEPT['alone']}",
        ),
        (
            {"labelled": True},
            True,
            True,
            "Claim data has the site's data, its label says, and the server has another one",
        ),
        (
            {},
            False,
            True,
            "The server does not run (pod postgres-0), so the other volumes (data) may have the only data",
        ),
    ],
)
def test_2_volume_with_the_only_copy_of_something_is_not_deleted(
    upgrade: Upgrade, volume: dict[str, Any], running: bool, forget: bool, said: str
) -> None:
    options = ["-e", json.dumps({"postgres_restore_forget_original": forget})]
    seen = upgrade.run(*options, entry="upgrade_alone", others=(other(**volume),), running=running, switched=True)
    assert said in seen
    assert ("Nothing was deleted." in seen) == bool(said)
    assert "failed=1" in seen if said else "failed=0" in seen


@pytest.mark.parametrize(("alone", "noted"), [("database kept\n", "database kept"), ("\n", None)])
def test_2_what_the_old_volume_alone_has_is_noted_on_its_claim(upgrade: Upgrade, alone: str, noted: str | None) -> None:
    answers = {"Ask what the old volume": {"stdout": alone}, "the claim that has the data": {"failed": True}}
    upgrade.run(answers=answers)
    (call,) = [json.loads(line) for line in upgrade.calls.read_text().splitlines() if "on the old claim" in line]
    assert call["name"] == "data"
    assert call["definition"]["metadata"]["annotations"] == {"kubernetes-django/not-copied": noted}
