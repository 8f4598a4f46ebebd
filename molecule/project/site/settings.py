"""The template's own settings, and what the cluster says: docs/your-project.md has this file in full."""

import os
from pathlib import Path

from .production import *

SECRET_KEY = Path(os.environ["DJANGO_SECRET_KEY_FILE"]).read_text()
ALLOWED_HOSTS = os.environ["DJANGO_ALLOWED_HOSTS"].split(",")
CSRF_TRUSTED_ORIGINS = [origin for origin in os.environ["DJANGO_CSRF_TRUSTED_ORIGINS"].split(",") if origin]
if os.environ["DJANGO_BEHIND_TLS"] == "true":
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["POSTGRES_HOST"],
        "PORT": os.environ["POSTGRES_PORT"],
        "NAME": os.environ["POSTGRES_DB"],
        "USER": os.environ["POSTGRES_USER"],
        "PASSWORD": Path(os.environ["POSTGRES_PASSWORD_FILE"]).read_text(),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": 5},
    }
}

# Static files from the image, by the same process.
MIDDLEWARE.insert(1, "whitenoise.middleware.WhiteNoiseMiddleware")

# Wagtail's background tasks go through the database to `manage.py db_worker`.
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
INSTALLED_APPS += ["django_tasks_db", *os.environ.get("EXTRA_APPS", "").split()]
