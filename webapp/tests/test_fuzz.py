"""Requests that nobody thought of, made by schemathesis from openapi.json, against the real server and database."""

from __future__ import annotations

from pathlib import Path

import pytest
import schemathesis
import servers
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import allow_header_conformance, unsupported_method

TOKEN = "t" * 32
schema = schemathesis.openapi.from_path(Path(__file__).with_name("openapi.json"))
# What must not be told: code, places, settings, passwords and keys.
UNTOLD = (
    "Traceback",
    "site-packages",
    "/app/",
    str(servers.WEBAPP),
    "DatabaseError",
    "SQLSTATE",
    servers.SECRET_KEY,
    "pl4nted",
)


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_request_breaks_the_site(case, site):
    """No 500, nothing told, and every answer one that openapi.json knows, of the type and shape it says."""
    if case.operation.label == "POST /admin/login/":
        # With a token, so that the form itself is reached.
        case.cookies, case.headers["X-CSRFToken"] = {"csrftoken": TOKEN}, TOKEN
    response = case.call(base_url=site.url, allow_redirects=False, timeout=20)
    assert response.status_code < 500, response.text
    for told in UNTOLD:
        assert told not in response.text
        assert told not in str(response.headers)
    # An unsafe method is refused for its missing token before anybody looks whether there is such a method.
    case.validate_response(response, excluded_checks=[unsupported_method, allow_header_conformance])


@pytest.mark.slow
def test_site_is_well_afterwards(site):
    assert site.get("/readyz").status == 200
    lines = site.log()
    assert len(lines) > 500
    assert not [line for line in lines if line["level"] in ("error", "critical")]
    print(f"{len(lines)} requests of a fuzz run logged, none as an error")
