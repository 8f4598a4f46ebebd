"""The site on Secrets that somebody else makes, as External Secrets or Sealed Secrets do, and no vault at all."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest
from scenario import URL, ask, changed, items, kubectl, playbook, secret_values
from traffic import Reader

NAMES = {
    "secrets_postgres_app": "their-app",
    "secrets_postgres_owner": "their-owner",
    "secrets_postgres_admin": "their-admin",
    "secrets_django": "their-django",
}
# Nothing may look at what the vault has.
NO_VAULT = {
    f"secrets_{name}": "{{ nobody_has_this }}"
    for name in ("postgres_app_password", "postgres_owner_password", "postgres_admin_password", "django_secret_key")
}
EXISTING = ["-e", json.dumps({"secrets_source": "existing"} | NAMES | NO_VAULT)]


def make(name: str, values: dict[str, str]) -> None:
    """Make a Secret, as another program would: without a label of the site's."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
    kubectl(
        "apply",
        "--server-side",
        "--field-manager=somebody-else",
        "--force-conflicts",
        "-f",
        "-",
        stdin=json.dumps(secret),
    )


def refused() -> str:
    """A deploy that preflight stops; what it says."""
    run = playbook("playbooks/deploy.yml", *EXISTING)
    assert run.returncode != 0
    assert "Nothing was touched. Mend this first:" in run.stdout
    return run.stdout


@pytest.fixture(scope="module", autouse=True)
def afterwards() -> Iterator[None]:
    """The site goes back to its vault, whose password the database does not have any more."""
    yield
    back = playbook("playbooks/deploy.yml", "-e", "postgres_adopt_passwords=true")
    kubectl("delete", "secret", *NAMES.values(), "--ignore-not-found")
    assert back.returncode == 0, back.stdout
    assert ask("/api/status")[0] == 200


def test_what_is_missing_is_said() -> None:
    told = refused()
    for variable, name in NAMES.items():
        assert f"{variable}: there is no Secret {name} in namespace" in told
    current = secret_values()
    make("their-app", {"user": "kube_boss", "password": current["postgres-credentials/password"] + "\n"})
    make("their-owner", {"user": "somebody", "password": current["postgres-owner/password"]})
    make("their-admin", {"user": "postgres"})
    make("their-django", {"secret-key": "short"})
    told = refused()
    assert "secrets_postgres_app: the Secret their-app has white space or a newline around the key password." in told
    assert "secrets_postgres_owner_user: is kubernetes_django_owner, and the Secret their-owner says somebody." in told
    assert "secrets_postgres_admin: the Secret their-admin lacks the key password." in told


def test_deploy_uses_them_and_writes_nothing() -> None:
    current = secret_values()
    make("their-app", {"user": "kube_boss", "password": current["postgres-credentials/password"]})
    make("their-owner", {"user": "kubernetes_django_owner", "password": current["postgres-owner/password"]})
    make("their-admin", {"password": current["postgres-admin/password"]})
    make("their-django", {"secret-key": current["django-settings/secret-key"], "another": "key"})
    assert changed(playbook("playbooks/deploy.yml", *EXISTING)) > 0
    kubectl("delete", "secret", "postgres-credentials", "postgres-owner", "postgres-admin", "django-settings")
    assert changed(playbook("playbooks/deploy.yml", *EXISTING)) == 0
    there = {secret["metadata"]["name"]: secret for secret in items("secrets", "--show-managed-fields")}
    assert not {"postgres-credentials", "postgres-owner", "postgres-admin", "django-settings"} & set(there)
    for name in NAMES.values():
        assert {entry["manager"] for entry in there[name]["metadata"]["managedFields"]} == {"somebody-else"}
    assert ask("/api/status")[0] == 200


def test_change_of_theirs_reaches_database_and_pods() -> None:
    make("their-app", {"user": "kube_boss", "password": "changed-by-'somebody'-else"})
    with Reader(URL, rate=30) as reader:
        assert changed(playbook("playbooks/deploy.yml", *EXISTING)) > 0
    print(f"password changed by somebody else: {reader.figures()}")
    assert reader.failures == []
    login = 'PGPASSWORD="$0" psql -X -h 127.0.0.1 -U kube_boss -d kubernetes_django -Atc "select 1"'
    assert kubectl("exec", "postgres-0", "--", "sh", "-c", login, "changed-by-'somebody'-else") == "1\n"
    assert changed(playbook("playbooks/deploy.yml", *EXISTING)) == 0


def test_nothing_is_rotated_here() -> None:
    run = playbook("playbooks/rotate_credentials.yml", *EXISTING)
    assert run.returncode != 0
    assert "secrets_source: the Secrets of this site are made elsewhere." in run.stdout
