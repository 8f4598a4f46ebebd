"""The bill of materials is one that CycloneDX's own schema accepts, and says what is there."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12+deb13u1
Description: a library
 Package: not-this

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: netbase
Status: install ok installed
Architecture: all
Version: 1:6.5~x
"""


@pytest.fixture
def bill(tmp_path: Path) -> dict:
    """Of two Debian packages and of this very environment."""
    (tmp_path / "status").write_text(STATUS)
    place = Path(metadata.distribution("pytest").locate_file("")).resolve()
    command = [sys.executable, ROOT / "roles/image/files/bases/sbom.py", "site", "1.2", tmp_path / "status", place]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == text
    return json.loads(text)


def test_schema_accepts(bill: dict) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(bill)) is None
    bill["components"][0]["typ"] = "library"
    assert validator.validate_str(json.dumps(bill)) is not None


def test_says_what_is_there(bill: dict) -> None:
    found = {each["purl"]: each for each in bill["components"]}
    assert {purl for purl in found if purl.startswith("pkg:deb/")} == {
        "pkg:deb/debian/libc6@2.41-12%2Bdeb13u1?arch=amd64",
        "pkg:deb/debian/netbase@1%3A6.5~x?arch=all",
    }
    assert f"pkg:pypi/pytest@{metadata.version('pytest')}" in found
    assert f"pkg:generic/python@{platform.python_version()}" in found
    assert found[f"pkg:pypi/pytest@{metadata.version('pytest')}"]["licenses"] == [{"expression": "MIT"}]
