"""The page in headless Chromium, on the running site.

With SCREENSHOTS=docs/screenshots in the environment, each state's picture is written there.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import time
from pathlib import Path

import axe_core_python
import pytest
import servers
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.browser

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
AXE_RUN = """
const values = ["wcag2a", "wcag2aa", "wcag2aaa", "wcag21a", "wcag21aa", "best-practice"];
axe.run({runOnly: {type: "tag", values}}).then(arguments[0]);
"""
# Debian's. Without them these tests fail, not skip: apt-get install chromium chromium-driver
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WIDE, PHONE = (1040, 800), (360, 740)


class Browser:
    def __init__(self, profile: Path) -> None:
        assert CHROMIUM, "chromium is missing: apt-get install chromium"
        assert DRIVER, "chromedriver is missing: apt-get install chromium-driver"
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (
            "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync",
            "disable-background-networking", "disable-component-update", "hide-scrollbars", f"user-data-dir={profile}",
            "host-resolver-rules=MAP site.test 127.0.0.1",
        ):  # fmt: skip
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        self.show()

    def show(self, size=WIDE, scheme="light"):
        """The size of the window and the colours that the user prefers."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def open(self, url):
        self.driver.get(url)
        self.errors()  # forget those of the page before

    def errors(self, ignore=()):
        """What the console complained about."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if not any(text in entry["message"] for text in ignore)
        ]

    def text(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def js(self, code):
        return self.driver.execute_script(code)

    def state(self):
        return self.text("#summary h2")

    def violations(self):
        """What axe finds against accessibility."""
        self.js(AXE)
        found = self.driver.execute_async_script(AXE_RUN)
        assert len(found["passes"]) > 10, "axe looked"
        return [f"{rule['id']}: {node['html']}" for rule in found["violations"] for node in rule["nodes"]]

    def screenshot(self, name):
        if folder := os.environ.get("SCREENSHOTS"):
            shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
            path = servers.WEBAPP.parent / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(shot["data"]))
            assert path.stat().st_size < 200_000


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    started = Browser(tmp_path_factory.mktemp("chromium"))
    yield started
    started.driver.quit()


@pytest.fixture(scope="module")
def site(postgres):
    """The site as a cluster would tell it about itself."""
    postgres.create("kubernetes_django", template="migrated")
    network = servers.Network(postgres.port)
    site = servers.Site(
        postgres.app_env("kubernetes_django", network.port)
        | {
            "DJANGO_ALLOWED_HOSTS": "127.0.0.1,site.test",
            "RELEASE": "4f1c2a9b7d30",
            "POD_NAME": "kubernetes-django-5d8f7c9b4-x2k9q",
            "NODE_NAME": "minikube",
            "POD_NAMESPACE": "kubernetes-django",
        }
    )
    site.network = network
    with site:
        yield site
    network.cut()
    postgres.drop("kubernetes_django")


def until(condition, seconds=12.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "in time"
        time.sleep(0.1)


# --- every state -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def statement(postgres, site, there, back):
    """A change in the database, seen by new connections."""
    postgres.sql(there, "kubernetes_django")
    forget(postgres)
    try:
        yield
    finally:
        postgres.sql(back, "kubernetes_django")
        forget(postgres)


def forget(postgres):
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")


@contextlib.contextmanager
def stopped(postgres, site):
    postgres.stop()
    site.network.cut()
    try:
        yield
    finally:
        postgres.start()
        site.network.mend()


@contextlib.contextmanager
def silent(postgres, site):
    site.network.swallow = True
    try:
        yield
    finally:
        site.network.swallow = False
        time.sleep(1.1)


@contextlib.contextmanager
def slow(postgres, site):
    site.network.delay = 0.3
    try:
        yield
    finally:
        site.network.delay = 0


@contextlib.contextmanager
def full(postgres, site):
    with contextlib.ExitStack() as stack:
        forget(postgres)
        time.sleep(0.2)
        with contextlib.suppress(servers.psycopg2.OperationalError):
            for _ in range(50):
                stack.enter_context(contextlib.closing(postgres.connect("postgres", "app", servers.PASSWORD)))
        yield
    time.sleep(0.2)


def changed(there, back):
    return lambda postgres, site: statement(postgres, site, there, back)


STATES = {
    "operational": ("Operational", "every migration is applied", lambda *_: contextlib.nullcontext()),
    "pending": (
        "Degraded",
        "2 migrations of this release are not applied.",
        changed(
            "CREATE TABLE kept AS SELECT * FROM django_migrations WHERE app = 'notes' AND name > '0003';"
            "DELETE FROM django_migrations WHERE app = 'notes' AND name > '0003'",
            "INSERT INTO django_migrations SELECT * FROM kept; DROP TABLE kept",
        ),
    ),
    "unknown": (
        "Degraded",
        "ahead of this release by 1 migration",
        changed(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('notes', '0005_note_colour', now())",
            "DELETE FROM django_migrations WHERE name = '0005_note_colour'",
        ),
    ),
    "missing-table": (
        "Degraded",
        "1 table is missing",
        changed("ALTER TABLE notes_note RENAME TO gone", "ALTER TABLE gone RENAME TO notes_note"),
    ),
    "read-only": (
        "Degraded",
        "takes no writes",
        changed(
            "ALTER DATABASE kubernetes_django SET default_transaction_read_only = on",
            "ALTER DATABASE kubernetes_django RESET default_transaction_read_only",
        ),
    ),
    "slow": ("Degraded", "answers slowly", slow),
    "down": ("Down", "Nothing listens at", stopped),
    "no-answer": ("Down", "does not answer", silent),
    "wrong-password": (
        "Down",
        "refuses the password of user app",
        changed(
            "ALTER ROLE app PASSWORD 'another'", f"ALTER ROLE app PASSWORD {servers.quoted(servers.PASSWORD)}"
        ),
    ),
    "full": ("Down", "no free connection", full),
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_state(postgres, site, browser, name):
    """Light, dark and narrow: readable, accessible, no wider than the screen, no console error."""
    state, reason, make = STATES[name]
    allowed = ["status of 503"] if state == "Down" else []
    with make(postgres, site):
        for scheme, size in (("light", WIDE), ("dark", WIDE), ("light", PHONE)):
            browser.show(size, scheme)
            browser.open(site.url)
            assert browser.state() == state
            assert reason in browser.text("#summary p")
            assert browser.driver.title == f"{state} · System Status"
            assert browser.violations() == []
            assert browser.js("return document.documentElement.scrollWidth <= innerWidth")
            assert browser.errors(allowed) == []
            look = "phone" if size == PHONE else scheme
            if name in ("operational", "down") or look == "light":
                browser.screenshot(name if look == "light" else f"{name}-{look}")
    until(lambda: all(site.get("/").status == 200 for _ in range(8)))


# --- what it does ------------------------------------------------------------------------------------------


@pytest.fixture
def page(site, browser):
    browser.show()
    browser.open(site.url)
    assert browser.state() == "Operational"
    return browser


def test_refreshes_when_the_database_goes_and_comes_back(postgres, site, page):
    """In place: no reload, focus and opened report stay."""
    page.js("window.same = true")
    checked = page.text("#checked")
    page.driver.find_element(By.CSS_SELECTOR, "summary").click()
    with stopped(postgres, site):
        until(lambda: page.state() == "Down")
        assert page.text("#database + dl dd") == "Not reachable"
        assert page.driver.title.startswith("Down")
        assert page.js("return document.querySelector('link[rel=icon]').href").rpartition("/")[2].startswith("bad.")
    until(lambda: page.state() == "Operational")
    assert page.text("#database + dl dd") == "Reachable"
    assert page.text("#checked") > checked
    assert page.js("return window.same")
    assert page.js("return document.getElementById('report').open")
    assert page.js("return document.activeElement.tagName") == "SUMMARY"
    assert page.js("return document.getElementById('summary').getAttribute('role')") == "status"
    assert page.errors(["status of 503"]) == []


def test_says_when_the_site_itself_is_gone(site, browser):
    look_again = "document.dispatchEvent(new Event('visibilitychange'))"  # as on coming back to the page
    with servers.Site(site.env) as own:
        browser.show()
        browser.open(own.url)
        browser.js("window.same = true")
        own.stop()
        browser.js(look_again)
        until(lambda: browser.state() == "Unreachable")
        assert "keeps asking" in browser.text("#summary p")
        assert browser.js("return document.querySelector('.banner use').getAttribute('href')") == "#bad"
        assert browser.violations() == []
        browser.screenshot("unreachable")
        own.start()
        browser.js(look_again)
        until(lambda: browser.state() == "Operational")
        assert browser.js("return window.same")


def test_copy(page):
    permission = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page.driver.execute_cdp_cmd("Browser.grantPermissions", permission)
    page.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert page.js("return document.activeElement.id") == "copy", "the keyboard's first stop"
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    until(lambda: page.text("#copy") == "Copied")
    copied = page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied.startswith("System Status: Operational\n")
    assert "Applied     32 of 32" in copied
    assert "pl4nted" not in copied
    until(lambda: page.text("#copy") == "Copy report")


def test_copy_without_a_secure_context(site, browser):
    """By plain HTTP from another machine, as with a NodePort, there is no clipboard API."""
    browser.show()
    browser.open(f"http://site.test:{site.port}")
    assert browser.js("return isSecureContext") is False
    browser.driver.find_element(By.ID, "copy").click()
    until(lambda: browser.text("#copy") == "Copied")
    browser.js("document.body.append(document.createElement('textarea'))")
    area = browser.driver.find_element(By.TAG_NAME, "textarea")
    area.send_keys(Keys.CONTROL, "v")
    assert area.get_attribute("value").startswith("System Status: Operational\n")


def test_public(postgres, site, browser):
    with servers.Site(site.env | {"DJANGO_STATUS_DETAILS": "false"}) as own:
        browser.show()
        browser.open(own.url)
        assert browser.state() == "Operational"
        assert browser.violations() == []
        assert "PostgreSQL" not in browser.driver.page_source
        browser.screenshot("public")
