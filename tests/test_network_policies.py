"""What each kind of the site's pods may reach, by the policies as rendered; and who is said to enforce them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.kubernetes_django.site.plugins.module_utils.checks_network import note_who_enforces
from conftest import ROOT
from rendered import DEFAULTS, render

TEMPLATE = ROOT / "roles/namespace/templates/pods.networkpolicy.yaml.j2"
PART_OF, COMPONENT = "app.kubernetes.io/part-of", "app.kubernetes.io/component"
# Every component that a template or a task gives a pod; `worker` is one of django_processes.
PODS = ["web", "worker", "migrations", "command", "database", "metrics", "backup", "upgrade", "external-database"]
CIDR = {"ipBlock": {"cidr": "192.0.2.0/24"}}

CASES: dict[str, tuple[dict[str, Any], dict[str, set[str]]]] = {
    "own": (
        {},
        {pod: {"names", "database"} for pod in PODS} | {"database": set()},
    ),
    "bucket": (
        {"postgres_backup_s3_endpoint": "http://s3.example.org"},
        {pod: {"names", "database"} for pod in PODS}
        | {"database": set(), "backup": {"names", "database", "80 anywhere"}},
    ),
    "archive-in-bucket": (
        {
            "postgres_backup_s3_endpoint": "https://s3.example.org",
            "postgres_archive": True,
            "postgres_archive_storage": "s3",
        },
        {pod: {"names", "database"} for pod in PODS}
        | {"database": {"names", "443 anywhere"}, "backup": {"names", "database", "443 anywhere"}},
    ),
    "elsewhere": (
        {
            "postgres_backend": "external",
            "postgres_port": "5433",
            "postgres_backup_s3_endpoint": "https://s3.example.org:9000",
            "namespace_network_s3": [{"to": [CIDR], "ports": [{"port": 9000}]}],
            "namespace_network_to": [{"ports": [{"port": 587}]}],
        },
        {pod: {"names", "5433 anywhere"} for pod in PODS}
        | {pod: {"names", "5433 anywhere", "587 anywhere"} for pod in ("web", "worker", "migrations", "command")}
        | {"database": set(), "backup": {"names", "5433 anywhere", "9000 in 192.0.2.0/24"}},
    ),
    "elsewhere-at-an-address": (
        {
            "postgres_backend": "external",
            "namespace_network_database": [{"to": [CIDR], "ports": [{"port": 5432}]}],
        },
        {pod: {"names", "5432 in 192.0.2.0/24"} for pod in PODS} | {"database": set()},
    ),
}


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """The policies of each case."""
    sets = {case: DEFAULTS | given for case, (given, _) in CASES.items()}
    rendered = render(tmp_path_factory.mktemp("policies"), [TEMPLATE], sets)
    return {case: files["pods.networkpolicy.yaml"] for case, files in rendered.items()}


def selects(selector: dict, labels: dict[str, str]) -> bool:
    """Whether a selector is for a pod with these labels."""
    listed = {"In": True, "NotIn": False}
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        (labels.get(each["key"]) in each["values"]) == listed[each["operator"]]
        for each in selector.get("matchExpressions", [])
    )


def said(rule: dict) -> str:
    """A rule of a policy's egress in a word."""
    ports = [port["port"] for port in rule.get("ports", [])]
    if 53 in ports:
        return "names"
    for peer in rule.get("to", []):
        if "podSelector" in peer:
            assert peer["podSelector"]["matchLabels"] == {PART_OF: "kubernetes-django", COMPONENT: "database"}
            return "database"
        return f"{ports[0]} in {peer['ipBlock']['cidr']}"
    return f"{ports[0]} anywhere"


@pytest.mark.parametrize("case", CASES)
def test_15_each_pod_reaches_what_it_needs_and_nothing_else(case: str, policies: dict[str, list[dict]]) -> None:
    wanted, found = CASES[case][1], policies[case]
    for pod in PODS:
        labels = {PART_OF: "kubernetes-django", COMPONENT: pod}
        own = [policy["spec"] for policy in found if selects(policy["spec"]["podSelector"], labels)]
        assert all(spec["policyTypes"] == ["Ingress", "Egress"] for spec in own)
        assert {said(rule) for spec in own for rule in spec.get("egress", [])} == wanted[pod], pod
        entries = {port["port"] for spec in own for rule in spec.get("ingress", []) for port in rule["ports"]}
        assert entries == {"web": {"http", "metrics"}, "database": {"postgres"}, "metrics": {"metrics"}}.get(pod, set())
    strangers = {PART_OF: "another"}
    assert not [policy for policy in found if selects(policy["spec"]["podSelector"], strangers)]
    # A running site never has the general "no" without what it needs.
    assert found[-1]["metadata"]["name"] == "site"
    assert not {"egress", "ingress"} & found[-1]["spec"].keys()


def test_every_component_is_known() -> None:
    """A new kind of pod has to be thought of in roles/namespace; a process of the user's is the site's image."""
    texts = [path.read_text() for folder in ("templates", "vars", "tasks") for path in ROOT.glob(f"roles/*/{folder}/*")]
    named = re.compile(r"(?:kubernetes\.io/|_job_)component'?: '?([a-z-]+)\b(?!\.)")
    assert {name for text in texts for name in named.findall(text)} == set(PODS) - {"worker"}


class Api:
    """An API server with these DaemonSets and nodes, or None where this account may not see them."""

    def __init__(self, daemon_sets: list[str] | None, kubelet: str | None = "v1.35.1") -> None:
        self.lists = {
            "DaemonSet": None if daemon_sets is None else [{"metadata": {"name": name}} for name in daemon_sets]
        }
        self.nodes = [] if kubelet is None else [{"status": {"nodeInfo": {"kubeletVersion": kubelet}}}]

    def list_if_allowed(self, kind: str) -> list[dict] | None:
        return self.lists[kind]


def notes(api: Api, wanted: bool = True) -> list[str]:
    """What preflight says of it, with or without policies."""
    return note_who_enforces(api, {"namespace_network_policies": wanted}, api.nodes)


@pytest.mark.parametrize("name", ["calico-node", "cilium", "kube-router", "rke2-canal", "ovnkube-node", "antrea-agent"])
def test_says_nothing_where_policies_are_enforced(name: str) -> None:
    assert notes(Api(["kube-proxy", name])) == []
    assert notes(Api([], "v1.33.1+k3s1")) == []


@pytest.mark.parametrize(
    ("api", "words"),
    [
        (Api(["kube-proxy"]), "No network plugin that is known to enforce NetworkPolicies was found"),
        (Api(["kube-flannel-ds", "kindnet"]), "No network plugin that is known to enforce NetworkPolicies was found"),
        (Api(None, None), "It is not known whether a network plugin enforces NetworkPolicies, as this account may not"),
    ],
    ids=["bridge", "flannel", "account-of-a-namespace"],
)
def test_15_says_in_one_sentence_that_nobody_enforces_them(api: Api, words: str) -> None:
    (note,) = notes(api)
    assert note.startswith(words)
    assert note.endswith("every pod of the cluster reaches the site's database, see docs/network.md.")
    assert notes(api, wanted=False) == []
