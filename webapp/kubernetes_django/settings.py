"""Settings, all from the environment and safe by default. `docs/status-page.md` lists the variables.

Nothing here depends on where the project runs: what differs between a laptop and a cluster is a variable.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path

from kubernetes_django.environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment()

# `DJANGO_BUILD=true python manage.py collectstatic` needs neither database nor secret. It serves nothing:
# wsgi.py refuses to start in this mode.
BUILD = env.flag("DJANGO_BUILD", default=False)
_BUILD_DEFAULT = "build" if BUILD else None

DEBUG = False
SECRET_KEY = env.secret(
    "DJANGO_SECRET_KEY",
    secrets.token_urlsafe(50) if BUILD else None,
    purpose="a random text of 50 characters or more",
)
if SECRET_KEY and (len(SECRET_KEY) < 50 or len(set(SECRET_KEY)) < 5):
    env.problem("DJANGO_SECRET_KEY is malformed: it must be a random text of 50 characters or more.")
# Old keys, so that sessions survive a new one.
SECRET_KEY_FALLBACKS = [
    key for key in env.secret("DJANGO_SECRET_KEY_FALLBACKS", "", purpose="old keys").split(",") if key
]

# --- who may ask -------------------------------------------------------------------------------------------
ALLOWED_HOSTS = env.items(
    "DJANGO_ALLOWED_HOSTS",
    ["localhost", "127.0.0.1", "[::1]"],
    # An IPv6 address without brackets, which no request names, comes from a platform that knows no better.
    r"\*|\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+",
    "host names or addresses without scheme, port or path",
)
# A pod's own address is not foreign: Prometheus asks for /metrics by it.
if pod_ip := env.text("POD_IP", ""):
    ALLOWED_HOSTS.append(f"[{pod_ip}]" if ":" in pod_ip else pod_ip)
CSRF_TRUSTED_ORIGINS = env.items(
    "DJANGO_CSRF_TRUSTED_ORIGINS", [], r"https?://[^/\s,]+", "origins such as https://example.org"
)

BEHIND_TLS = env.flag("DJANGO_BEHIND_TLS", default=False)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
SECURE_REDIRECT_EXEMPT = [r"^metrics$"]  # asked for inside the cluster, by plain HTTP
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
SECURE_HSTS_SECONDS = env.number("DJANGO_HSTS_SECONDS", 31_536_000, 0, 63_072_000) if BEHIND_TLS else 0
# How many proxies in front add to X-Forwarded-For: the log then tells the client's address, not the proxy's.
TRUSTED_PROXIES = env.number("DJANGO_TRUSTED_PROXIES", 1 if BEHIND_TLS else 0, 0, 10)
# Whether *other* host names of the domain have TLS is not this site's to promise.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"  # no cookie of its own

# --- the application ---------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "status",
    "notes",
]
MIDDLEWARE = [
    # First: probes come by the pod's address, and neither the host check nor the log is for them.
    "status.probes.ProbeMiddleware",
    "kubernetes_django.middleware.RequestMiddleware",
    "kubernetes_django.middleware.HeadersMiddleware",
    "kubernetes_django.middleware.HostMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "kubernetes_django.urls"
WSGI_APPLICATION = "kubernetes_django.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
# Five wrong passwords, and that name waits at that address, whichever pod is asked. Elsewhere nobody is kept out by it,
# and what comes while it waits costs no hash and makes it no longer.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=5)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_DISABLE_ACCESS_LOG = True
AXES_CLIENT_IP_CALLABLE = "kubernetes_django.middleware.client_of"
AXES_VERBOSE = False
LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = "UTC"
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024
# No view takes files: a small one is forgotten with its request, a large one while it is read.
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- static files ------------------------------------------------------------------------------------------
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# --- the database ------------------------------------------------------------------------------------------
# Seconds. Every wait ends: `bounded_postgresql` tells how.
POSTGRES_CONNECT_TIMEOUT = env.number("POSTGRES_CONNECT_TIMEOUT", 2, 1, 60)
POSTGRES_STATEMENT_TIMEOUT = env.number("POSTGRES_STATEMENT_TIMEOUT", 5, 1, 3600)

_sslmode = env.choice(
    "POSTGRES_SSLMODE", ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"), "prefer"
)
_sslrootcert = env.text("POSTGRES_SSLROOTCERT", "")
if _sslrootcert and not Path(_sslrootcert).is_file():
    env.problem("POSTGRES_SSLROOTCERT names a file that is not there: mount the CA's certificate.")
if _sslmode.startswith("verify-") and not _sslrootcert:
    env.problem(f"POSTGRES_SSLROOTCERT is not set: POSTGRES_SSLMODE={_sslmode} needs the CA's certificate.")

DATABASES = {
    "default": {
        "ENGINE": "kubernetes_django.bounded_postgresql",
        "NAME": env.text("POSTGRES_DB", "kubernetes_django"),
        "USER": env.text("POSTGRES_USER", _BUILD_DEFAULT, purpose="the database user's name"),
        "PASSWORD": env.secret("POSTGRES_PASSWORD", _BUILD_DEFAULT, purpose="the database user's password"),
        "HOST": env.text("POSTGRES_HOST", _BUILD_DEFAULT, purpose="the database's host name or address"),
        "PORT": env.number(
            "POSTGRES_PORT", 5432, 1, 65535, hint=" (a Service's tcp:// address gets there by enableServiceLinks)"
        ),
        # Persistent, asked whether they still live at a request's first query.
        "CONN_MAX_AGE": env.number("POSTGRES_CONN_MAX_AGE", 600, 0, 86_400),
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "application_name": env.text("POD_NAME", "kubernetes-django")[:63],
            "connect_timeout": POSTGRES_CONNECT_TIMEOUT,
            "tcp_user_timeout": 5000,  # ms without an answer to sent packets
            "keepalives_idle": 30,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "options": f"-c statement_timeout={POSTGRES_STATEMENT_TIMEOUT}s -c TimeZone=UTC",
            "sslmode": _sslmode,
            **({"sslrootcert": _sslrootcert} if _sslrootcert else {}),
        },
    }
}

# --- the status page ---------------------------------------------------------------------------------------
STATUS_DETAILS = env.flag("DJANGO_STATUS_DETAILS", default=True)
STATUS_TIMEOUT = 1.5  # seconds for all that one page asks the database
READY_TIMEOUT = 1.0  # the same for /readyz; the Deployment's probe waits a little longer
# Whether a new process is not ready before every migration of its code was applied.
WAIT_FOR_SCHEMA = env.flag("DJANGO_WAIT_FOR_SCHEMA", default=False)
RUNTIME = {
    "release": env.text("RELEASE", ""),
    "revision": env.text("REVISION", ""),
    "pod": env.text("POD_NAME", ""),
    "node": env.text("NODE_NAME", ""),
    "namespace": env.text("POD_NAMESPACE", ""),
}
# A JSON file that the backup writes; see status/backup.py.
BACKUP_STATUS_FILE = env.text("BACKUP_STATUS_FILE", "")
# Whether a schedule asks for backups, and for drills: then the first one is due as well.
BACKUP_SCHEDULED = env.flag("BACKUP_SCHEDULED", default=False)
BACKUP_MAX_AGE_HOURS = env.number("BACKUP_MAX_AGE_HOURS", 26, 1, 8784)
DRILL_SCHEDULED = env.flag("DRILL_SCHEDULED", default=False)
DRILL_MAX_AGE_HOURS = env.number("DRILL_MAX_AGE_HOURS", 170, 1, 8784)

# Whether anybody may add a note by POST /api/notes. For demonstrations and tests.
NOTES_WRITABLE = env.flag("DJANGO_NOTES_WRITABLE", default=False)

# --- logs --------------------------------------------------------------------------------------------------
LOG_LEVEL = env.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), "INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "kubernetes_django.logs.JsonFormatter"}},
    # Django's line for every answer from 400 up says what the request's own line says. Exceptions stay.
    "filters": {
        "exceptions": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: record.exc_info is not None or record.levelname == "CRITICAL",
        }
    },
    "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
    "root": {"handlers": ["stdout"], "level": LOG_LEVEL},
    # Django's own handlers are for DEBUG and for mail to admins.
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.request": {"filters": ["exceptions"]},
        "django.security.DisallowedHost": {"level": "CRITICAL"},  # anybody can cause it
    },
}

env.finish()
