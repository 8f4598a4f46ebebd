"""What the images hold: nothing to build or install with, and a bill of materials that is true."""

from __future__ import annotations

import json
import re

import pytest
from scenario import items, kubectl

# Whoever gets into a pod finds none of these. They are gone where the bases are made from Debian packages.
TOOLS = "apt apt-get dpkg cc gcc clang make ld as perl curl wget ssh nc sudo"
PODS = {
    "deployment/kubernetes-django": "/usr/share/sbom/kubernetes-django.cdx.json",
    "postgres-0": "/usr/share/sbom/postgres.cdx.json",
    "deployment/kubernetes-django --container=proxy": "/usr/share/sbom/nginx.cdx.json",
}
INSTALLED = """
import json
from importlib import metadata
print(json.dumps({each.name.lower().replace("_", "-"): each.version for each in metadata.distributions()}))
"""


@pytest.fixture(scope="module", autouse=True)
def made_here() -> None:
    """Skips where the bases are a registry's, whose tools are not ours to take away."""
    images = {container["image"] for pod in items("pods") for container in pod["spec"]["containers"]}
    if not any(re.match(r"localhost/kubernetes-django-postgres:", image) for image in images):
        pytest.skip(f"the bases are a registry's: {images}")


@pytest.mark.parametrize("pod", PODS)
def test_no_compiler_and_no_package_manager(pod: str) -> None:
    script = f'for tool in {TOOLS}; do command -v "$tool"; done; command -v sh; exit 0'
    found = kubectl("exec", *pod.split(), "--", "sh", "-c", script).split()
    assert len(found) == 1, found


@pytest.mark.parametrize("pod", PODS)
def test_no_file_of_pip_or_its_wheel(pod: str) -> None:
    """Not only no command of that name: `python -m ensurepip` would bring it back where the root can be written to."""
    search = "find / -xdev '(' -name pip -o -name 'pip-*' -o -name 'pip3*' -o -name ensurepip ')' -print; find /bin/sh"
    assert kubectl("exec", *pod.split(), "--", "sh", "-c", f"{search} 2> /dev/null").split() == ["/bin/sh"]


@pytest.mark.parametrize("pod", PODS)
def test_nothing_becomes_root_and_nothing_can_be_replaced(pod: str) -> None:
    """No set-uid program, and no file of the image that its user could write to, were its root not read-only."""
    places = "/app /opt /usr /bin /etc"
    # A folder that its user cannot read (/etc/ssl/private) is none that it could write to.
    script = f"find $(ls -d {places} 2> /dev/null) -xdev -type d ! -readable -prune -o"
    script += " -type f '(' -perm /6000 -o -writable ')' -print"
    assert kubectl("exec", *pod.split(), "--", "sh", "-c", script).split() == []


@pytest.mark.parametrize(("pod", "path"), PODS.items())
def test_bill_of_materials_is_true(pod: str, path: str) -> None:
    bill = json.loads(kubectl("exec", *pod.split(), "--", "cat", path))
    status = kubectl("exec", *pod.split(), "--", "cat", "/var/lib/dpkg/status")
    found = {each["purl"].partition("/")[0]: {} for each in bill["components"]}
    for each in bill["components"]:
        found[each["purl"].partition("/")[0]][each["name"]] = each["version"]
    fields = [dict(re.findall(r"^(\w+): (.*)$", each, re.MULTILINE)) for each in status.split("\n\n")]
    there = {each["Package"]: each["Version"] for each in fields if each.get("Status") == "install ok installed"}
    assert found["pkg:deb"] == there
    if "pkg:pypi" in found:
        assert found["pkg:pypi"] == json.loads(kubectl("exec", pod, "--", "python", "-c", INSTALLED))
    print(f"{path}: {', '.join(f'{len(names)} {kind}' for kind, names in sorted(found.items()))}")
