#!/bin/sh
# The tutorial's way to start: migrate, then serve. The lock makes it safe with many replicas.
set -eu
cd "$(dirname "$0")"

# The web process's database user need not own the schema: MIGRATE_POSTGRES_USER (with its password in
# MIGRATE_POSTGRES_PASSWORD_FILE) is then the one who does.
if [ -n "${MIGRATE_POSTGRES_USER:-}" ]; then
    env -u POSTGRES_PASSWORD \
        POSTGRES_USER="$MIGRATE_POSTGRES_USER" POSTGRES_PASSWORD_FILE="$MIGRATE_POSTGRES_PASSWORD_FILE" \
        python manage.py migrate_locked --noinput
else
    python manage.py migrate_locked --noinput
fi
exec gunicorn --config gunicorn.conf.py kubernetes_django.wsgi
