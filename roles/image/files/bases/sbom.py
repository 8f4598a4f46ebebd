"""Writes a software bill of materials, CycloneDX JSON: what an image consists of, for who hears of a hole in something.

    sbom.py NAME VERSION STATUS [SITE_PACKAGES] > bom.json

STATUS is dpkg's file of installed packages, SITE_PACKAGES the folder of a Python environment. Only the standard library
is used, for it runs inside images too; and nothing of the moment is written: the same image, the same bill.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote


def debian(status: str) -> list[dict[str, Any]]:
    """The packages that dpkg says are installed, from the text of its status file."""
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
            found.append(component(name, version, f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}"))
    return found


def python(site_packages: str) -> list[dict[str, Any]]:
    """Python itself, and the distributions in a folder."""
    found = [component("python", platform.python_version(), f"pkg:generic/python@{platform.python_version()}")]
    for distribution in metadata.distributions(path=[site_packages]):
        name = re.sub(r"[-_.]+", "-", distribution.name).lower()
        item = component(name, distribution.version, f"pkg:pypi/{name}@{quote(distribution.version)}")
        if expression := distribution.metadata.get("License-Expression"):
            item["licenses"] = [{"expression": expression}]
        found.append(item)
    return found


def component(name: str, version: str, purl: str) -> dict[str, Any]:
    """One thing that an image has, named by a package URL."""
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def bill(name: str, version: str, components: list[dict[str, Any]]) -> str:
    """The bill of an image, as text."""
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": "image", "name": name, "version": version}},
        "components": sorted(components, key=lambda each: each["purl"]),
    }
    return json.dumps(document, indent=1) + "\n"


if __name__ == "__main__":
    listed = debian(Path(sys.argv[3]).read_text())
    if len(sys.argv) > 4:
        listed += python(sys.argv[4])
    sys.stdout.write(bill(sys.argv[1], sys.argv[2], listed))
