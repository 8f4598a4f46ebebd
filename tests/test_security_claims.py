"""SECURITY.md names tests for what it claims; they have to exist."""

from __future__ import annotations

import ast
import re

import pytest
from conftest import ROOT

TEXT = (ROOT / "SECURITY.md").read_text()
NAMED = re.findall(r"`([\w/]+\.py)::(?:\w+::)?(\w+)`", TEXT)
ROWS = [row for row in re.findall(r"^\| (.*) \|$", TEXT, re.MULTILINE) if not row.startswith("what | how")]


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)), ids="::".join)
def test_17_named_test_exists(path: str, name: str) -> None:
    assert name.startswith("test_")
    functions = [
        each.name for each in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(each, ast.FunctionDef)
    ]
    assert name in functions


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.partition(" |")[0])
def test_every_claim_names_a_test_and_nothing_else(row: str) -> None:
    *_, proof = row.split(" | ")
    assert re.fullmatch(r"`[\w/]+\.py::\w+`(, `[\w/]+\.py::\w+`)*", proof), proof


def test_something_is_claimed() -> None:
    """So that the tests above never look at nothing."""
    assert len(ROWS) >= 15
    assert len(NAMED) >= 40
