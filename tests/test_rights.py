"""Which rights preflight finds missing, from what an API server answers about them."""

from __future__ import annotations

import pytest
from ansible_collections.kubernetes_django.site.plugins.module_utils import rights


class Api:
    """An API server whose user has these rules, and is allowed what stands in `allowed` when asked for it alone."""

    def __init__(self, rules: list[dict], allowed: tuple[str, ...] = ()) -> None:
        self.rules, self.allowed, self.asked = rules, allowed, []

    def request(self, method: str, path: str, body: dict) -> dict:
        if path.endswith("selfsubjectrulesreviews"):
            return {"status": {"resourceRules": self.rules, "incomplete": True}}
        attributes = body["spec"]["resourceAttributes"]
        self.asked.append(attributes)
        sub = f"/{attributes['subresource']}" if attributes["subresource"] else ""
        name = f"{attributes['verb']} {attributes['resource']}{sub}"
        return {"status": {"allowed": name in self.allowed}}


def rule(groups: str, resources: str, verbs: str, **more: list[str]) -> dict:
    return {"apiGroups": groups.split(), "resources": resources.split(), "verbs": verbs.split()} | more


EXEC = rights.rights("", "pods/exec", "get create")


@pytest.mark.parametrize(
    "rules",
    [[rule("*", "*", "*")], [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "get"]}]],
    ids=["administrator", "role"],
)
def test_rules_answer_all_at_once(rules: list[dict]) -> None:
    api = Api(rules)
    assert rights.denied(api, "site", EXEC) == []
    assert api.asked == []


def test_what_no_rule_gives_is_asked_for() -> None:
    """An authorizer that lists no rules, as those of clouds do, is asked one by one."""
    api = Api([rule("apps", "deployments", "get")], allowed=("get pods/exec",))
    denied = rights.denied(api, "site", EXEC)
    assert rights.in_words(denied) == "create pods/exec"
    assert {each["namespace"] for each in api.asked} == {"site"}


def test_rules_of_a_namespace_do_not_reach_beyond_it() -> None:
    """All rights in a namespace are none to volumes, which are in no namespace."""
    api = Api([rule("*", "*", "*")])
    denied = rights.denied(api, "site", rights.rights("", "persistentvolumes", "list", cluster_wide=True))
    assert rights.in_words(denied) == "list persistentvolumes"
    assert "namespace" not in api.asked[0]


def test_rule_for_one_object_is_none_for_all() -> None:
    api = Api([{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["*"], "resourceNames": ["a"]}])
    assert rights.denied(api, "site", EXEC) == EXEC


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"storage_kind": "claim"}, ""),
        ({"storage_kind": "class"}, "create, patch persistentvolumeclaims"),
        (
            {"storage_kind": "hostpath"},
            "create, patch persistentvolumeclaims; get, list, create, patch persistentvolumes",
        ),
        ({"namespace_network_policies": True}, "get, create, patch networkpolicies"),
        ({"namespace_quota": {"pods": "9"}}, "get, create, patch resourcequotas"),
    ],
)
def test_only_what_the_variables_ask_for(values: dict, words: str) -> None:
    assert rights.in_words(rights.wanted(values)) == words
