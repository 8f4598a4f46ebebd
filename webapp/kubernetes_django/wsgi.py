"""What gunicorn serves."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from kubernetes_django import bounded_postgresql
from status import migrations

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kubernetes_django.settings")

if settings.BUILD:
    raise SystemExit("DJANGO_BUILD is true: it is for collectstatic alone; unset it to serve.")

application = get_wsgi_application()
# Here and not in the settings: management commands may wait as long as their work takes.
bounded_postgresql.bound_waits()
# Before gunicorn forks, so that its workers share it.
migrations.known()
