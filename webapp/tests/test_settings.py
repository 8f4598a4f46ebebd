"""What the environment may hold, and the one sentence when it does not."""

from __future__ import annotations

import runpy
import subprocess
import sys

import pytest
import servers

from kubernetes_django.environment import Environment

GOOD = {
    "POSTGRES_USER": "app",
    "POSTGRES_PASSWORD": servers.PASSWORD,
    "POSTGRES_HOST": "db",
    "DJANGO_SECRET_KEY": servers.SECRET_KEY,
}


def settings(**env):
    """The settings that `env` makes, read anew."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_HOST", "POSTGRES_PORT", "DJANGO_ALLOWED_HOSTS"):
            patch.delenv(name, raising=False)
        for name, value in (GOOD | env).items():
            patch.setenv(name, value) if value is not None else patch.delenv(name, raising=False)
        return runpy.run_path(str(servers.WEBAPP / "kubernetes_django/settings.py"))


def refusal(**env):
    with pytest.raises(SystemExit) as caught:
        settings(**env)
    text = str(caught.value.code)
    assert "pl4nted" not in text
    assert servers.SECRET_KEY not in text
    return text


def test_safe_by_default():
    found = settings()
    assert found["DEBUG"] is False
    assert found["ALLOWED_HOSTS"] == ["localhost", "127.0.0.1", "[::1]"]
    assert found["CSRF_TRUSTED_ORIGINS"] == []
    assert found["NOTES_WRITABLE"] is False
    assert found["DATABASES"]["default"]["PASSWORD"] == servers.PASSWORD
    assert found["DATABASES"]["default"]["PORT"] == 5432
    assert found["DATABASES"]["default"]["NAME"] == "kubernetes_django"


def test_behind_tls():
    found = settings(DJANGO_BEHIND_TLS="true", DJANGO_CSRF_TRUSTED_ORIGINS="https://example.org")
    for name in ("SECURE_SSL_REDIRECT", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE"):
        assert found[name] is True
    assert found["SECURE_HSTS_SECONDS"] > 0


def test_own_address_is_not_foreign():
    assert settings(POD_IP="10.1.2.3")["ALLOWED_HOSTS"][-1] == "10.1.2.3"
    assert settings(POD_IP="fd00::1")["ALLOWED_HOSTS"][-1] == "[fd00::1]"


@pytest.mark.parametrize("address", ["192.168.49.2", "fd00::2"])
def test_address_of_the_node_as_kubernetes_fills_it_in(address):
    """The list has it twice, once in brackets: which of the two families it is, the deploy does not know."""
    hosts = settings(DJANGO_ALLOWED_HOSTS=f"site.example.org,{address},[{address}]")["ALLOWED_HOSTS"]
    assert (f"[{address}]" if ":" in address else address) in hosts


def test_old_secret_keys():
    assert settings(DJANGO_SECRET_KEY_FALLBACKS="one,two")["SECRET_KEY_FALLBACKS"] == ["one", "two"]
    assert settings()["SECRET_KEY_FALLBACKS"] == []


def test_old_secret_keys_from_a_file_that_need_not_be_there(tmp_path):
    path = tmp_path / "fallbacks"
    for text in (None, "", "one,two"):
        if text is not None:
            path.write_text(text)
        found = settings(DJANGO_SECRET_KEY_FALLBACKS_FILE=str(path))["SECRET_KEY_FALLBACKS"]
        assert found == (text.split(",") if text else [])
    path.write_text("one,two\n")
    assert "white space" in refusal(DJANGO_SECRET_KEY_FALLBACKS_FILE=str(path))


def test_secret_from_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(servers.PASSWORD)
    found = settings(POSTGRES_PASSWORD=None, POSTGRES_PASSWORD_FILE=str(path))
    assert found["DATABASES"]["default"]["PASSWORD"] == servers.PASSWORD


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"POSTGRES_USER": None}, "POSTGRES_USER is not set: give it the database user's name."),
        ({"POSTGRES_PASSWORD": ""}, "POSTGRES_PASSWORD is not set"),
        ({"POSTGRES_PASSWORD": "pl4nted\n"}, "POSTGRES_PASSWORD is malformed: it begins or ends with white space"),
        ({"POSTGRES_HOST": "db\n"}, "POSTGRES_HOST is malformed"),
        ({"POSTGRES_PASSWORD_FILE": "/nowhere"}, "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both set"),
        ({"POSTGRES_PORT": "tcp://10.0.0.1:5432"}, "POSTGRES_PORT is malformed"),
        ({"POSTGRES_PORT": "0"}, "POSTGRES_PORT is malformed"),
        ({"POSTGRES_SSLMODE": "yes"}, "POSTGRES_SSLMODE is malformed: it must be one of disable, allow"),
        ({"POSTGRES_SSLMODE": "verify-full"}, "POSTGRES_SSLROOTCERT is not set"),
        ({"POSTGRES_SSLROOTCERT": "/nowhere/ca.pem"}, "POSTGRES_SSLROOTCERT names a file that is not there"),
        ({"DJANGO_SECRET_KEY": None}, "DJANGO_SECRET_KEY is not set"),
        ({"DJANGO_SECRET_KEY": "short"}, "DJANGO_SECRET_KEY is malformed: it must be a random text of 50"),
        ({"DJANGO_SECRET_KEY": "a" * 60}, "DJANGO_SECRET_KEY is malformed"),
        ({"DJANGO_ALLOWED_HOSTS": "https://example.org"}, "DJANGO_ALLOWED_HOSTS is malformed"),
        ({"DJANGO_ALLOWED_HOSTS": "example.org:8000"}, "DJANGO_ALLOWED_HOSTS is malformed"),
        ({"DJANGO_CSRF_TRUSTED_ORIGINS": "example.org"}, "DJANGO_CSRF_TRUSTED_ORIGINS is malformed"),
        ({"DJANGO_BEHIND_TLS": "yes"}, "DJANGO_BEHIND_TLS is malformed: it must be true or false."),
        ({"DJANGO_STATUS_DETAILS": "0"}, "DJANGO_STATUS_DETAILS is malformed"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL is malformed"),
    ],
)
def test_refused_with_one_sentence(env, sentence):
    text = refusal(**env)
    assert text.startswith(sentence)
    assert "\n" not in text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "names a file that cannot be read (No such file or directory)"),
        (b"", "names an empty file"),
        (b"pl4nted\n", "begins or ends with white space or a newline"),
        (b"\xff\xfe", "it is not UTF-8 text"),
    ],
)
def test_bad_secret_file(tmp_path, content, sentence):
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    text = refusal(POSTGRES_PASSWORD=None, POSTGRES_PASSWORD_FILE=str(path))
    assert text.startswith("POSTGRES_PASSWORD_FILE ")
    assert sentence in text


def test_every_problem_at_once():
    lines = refusal(POSTGRES_USER=None, POSTGRES_PORT="x", DJANGO_SECRET_KEY=None).splitlines()
    assert [line.split()[0] for line in lines] == ["DJANGO_SECRET_KEY", "POSTGRES_USER", "POSTGRES_PORT"]


def test_number_bounds():
    env = Environment({"N": "٣"})  # a digit of another script
    assert env.number("N", 1, 0, 9) == 1
    assert env.problems


# --- as programs -------------------------------------------------------------------------------------------


def gunicorn(*arguments, **env):
    return subprocess.run(
        [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", *arguments, "kubernetes_django.wsgi"],
        cwd=servers.WEBAPP,
        env=servers.clean_env({name: value for name, value in (GOOD | env).items() if value is not None}),
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_gunicorn_check_config():
    done = gunicorn("--check-config")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"POSTGRES_USER": None}, "POSTGRES_USER is not set: give it the database user's name."),
        (
            {"CPU_LIMIT": "many"},
            "CPU_LIMIT is malformed: it must be cores such as 2 or 0.5, or millicores such as 500m.",
        ),
        ({"WEB_CONCURRENCY": "0"}, "WEB_CONCURRENCY is malformed: it must be a whole number from 1 to 64."),
        ({"DJANGO_BUILD": "true"}, "DJANGO_BUILD is true: it is for collectstatic alone; unset it to serve."),
    ],
)
def test_start_ends_with_the_sentence_alone(env, sentence):
    done = gunicorn(PORT=str(servers.free_port()), **env)
    assert done.returncode != 0
    assert done.stderr.strip() == sentence


@pytest.mark.parametrize(
    ("limit", "workers"), [("0.5", 2), ("1", 2), ("2", 2), ("3", 3), ("500m", 2), ("2500m", 3), ("4000", 4), ("64", 16)]
)
def test_workers_follow_the_cpu_limit(limit, workers, monkeypatch):
    monkeypatch.setenv("CPU_LIMIT", limit)
    # As gunicorn reads it; it changes PROMETHEUS_MULTIPROC_DIR, which monkeypatch puts back.
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    config = runpy.run_path(str(servers.WEBAPP / "gunicorn.conf.py"))
    assert (config["workers"], config["threads"]) == (workers, 4)


def test_deploy_check_has_no_warning_with_tls():
    done = servers.manage("check", "--deploy", "--fail-level", "WARNING", env=GOOD | {"DJANGO_BEHIND_TLS": "true"})
    assert "no issues" in done.stdout
    assert done.stderr == ""
