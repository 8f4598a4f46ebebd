#!/bin/sh
# Looks at a PostgreSQL that runs elsewhere, as the site will use it, and gives the app its rights on what the owner makes.
# Ends with one sentence when something is missing. Environment: libpq's, OWNER and APP; passwords: /run/secrets/logins.
set -eu
umask 077

fail() {
    echo "$*"
    exit 1
}

# psql as the user $1 with the password of file $2; the rest are its arguments.
as() {
    user=$1 file=$2
    shift 2
    # By a file in memory, whose fields end at a colon: the environment of a process can be read.
    printf '*:*:*:*:%s\n' "$(sed 's/[\\:]/\\&/g' "/run/secrets/logins/$file")" > /tmp/pgpass
    PGPASSFILE=/tmp/pgpass psql -X -q -A -t -v ON_ERROR_STOP=1 -v app="$APP" -U "$user" "$@" 2> /tmp/errors
}

# Why the last one failed; libpq says in a line of its own that it used the file.
cause() {
    grep -v 'password retrieved from file' /tmp/errors | tail -n 1
}

ask() {
    echo "$1" | as "$OWNER" owner -f -
}

# Where NetworkPolicies are enforced a new pod is let through some seconds after its start.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    ! pg_isready -q || break
    sleep 1
done
place="$PGHOST:$PGPORT"
as "$OWNER" owner -c '' || fail "$OWNER cannot log in to $PGDATABASE at $place: $(cause)"

version=$(ask "SHOW server_version_num")
[ "$version" -ge "$OLDEST" ] || fail "postgres_external_host: $place runs PostgreSQL $(ask 'SHOW server_version'), Django needs" \
    "$((OLDEST / 10000)) or newer: upgrade it."
[ "$(ask "SELECT has_schema_privilege('public', 'CREATE') AND has_schema_privilege('public', 'USAGE')")" = t ] ||
    fail "$OWNER may not create tables in $PGDATABASE at $place. As its administrator run there:" \
        "GRANT USAGE, CREATE ON SCHEMA public TO \"$OWNER\";"
[ "$(ask "SELECT count(*) FROM pg_roles WHERE rolname = :'app'")" = 1 ] ||
    fail "$place has no role $APP. As its administrator run there: CREATE ROLE \"$APP\" LOGIN; \\password \"$APP\""

# The owner's to give.
as "$OWNER" owner -f - << 'SQL' || fail "$OWNER cannot give $APP its rights: $(cause)"
ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"app";
ALTER DEFAULT PRIVILEGES GRANT SELECT, USAGE ON SEQUENCES TO :"app";
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO :"app";
SQL

as "$APP" app -c '' || fail "$APP cannot log in to $PGDATABASE at $place: $(cause)"
[ "$(echo "SELECT has_schema_privilege('public', 'USAGE')" | as "$APP" app -f -)" = t ] ||
    fail "$APP may not use the schema public of $PGDATABASE at $place. As its administrator run there:" \
        "GRANT USAGE ON SCHEMA public TO \"$APP\";"
missing=$(ask "SELECT string_agg(name, ', ') FROM unnest(string_to_array('$EXTENSIONS', ',')) AS name
    WHERE name NOT IN (SELECT extname FROM pg_extension)")
[ -z "$missing" ] || fail "postgres_extensions: $PGDATABASE at $place lacks $missing. As its administrator run there:" \
    "CREATE EXTENSION ...;"
tls=$(ask "SELECT COALESCE((SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl), 'no TLS')")
echo "PostgreSQL $(ask 'SHOW server_version') at $place, $tls: logins and rights are as they should be."
