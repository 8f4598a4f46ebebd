#!/bin/sh
# Asks a PostgreSQL that runs elsewhere how it is, as the app, which sees its own transactions: first the comment on the
# database, where the backups' Jobs note what they did, then a line for each question.
set -eu
umask 077
# Where NetworkPolicies are enforced a new pod is let through some seconds after its start.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    ! pg_isready -q || break
    sleep 1
done
# By a file in memory, whose fields end at a colon: the environment of a process can be read.
printf '*:*:*:*:%s\n' "$(sed 's/[\\:]/\\&/g' /run/secrets/logins/app)" > /tmp/pgpass
export PGPASSFILE=/tmp/pgpass
said=$(psql -X -q -A -t -v ON_ERROR_STOP=1 -U "$APP" -f - 2>&1 << SQL
SELECT COALESCE(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = current_database();
$QUESTIONS
SQL
) || said="
does not answer: $(printf '%s' "$said" | tr -s '\n\t' ' ')"
printf '%s\n' "$said"
