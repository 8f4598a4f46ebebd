#!/bin/bash
# Restores the backup $RESTORE (a name, or `latest`) into a new database, which takes the old one's place when it is
# complete. Until then the old one is as it was, but for the time of the restore nobody may connect to it. Ended at any
# moment and run again, it converges: what a run leaves behind is either the old database or the new one.
#
#   KEEP_REPLACED   true: the database that was replaced stays, under another name, until the next restore
#   RUN             the Job's own id, which all its pods have
#
# What is there is backed up before. Where that cannot be, for it is damaged or the volume of the backups is full, it stays
# under a name of its own, which no restore deletes.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

# PostgreSQL cuts names after 63 bytes.
new=${DATABASE:0:50}_restoring
replaced=${DATABASE:0:50}_replaced

admin() { sql postgres --set new="$new" --set replaced="$replaced" "$@"; }
# By this number a database is known under each of its names.
number_of() { admin --set name="$1" <<< "select oid from pg_database where datname = :'name'"; }
has() { [[ $(admin --set name="$1" <<< "select count(*) from pg_database where datname = :'name'") = 1 ]]; }

# Nobody but this script gets into the database $1; who is in it is sent away. A worker of autovacuum, which has no user,
# only a superuser may end; the server ends it when the database gets another name.
close() {
    admin --set name="$1" << 'SQL'
        select format('alter database %I allow_connections false', :'name') \gexec
        select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where datname = :'name' and usename is not null \g /dev/null
SQL
}
open() { admin --set name="$1" <<< "select format('alter database %I allow_connections true', :'name') \\gexec"; }
drop() { admin --set name="$1" <<< "select format('drop database if exists %I with (force)', :'name') \\gexec"; }

# Ends the script where a pod of this Job before it has restored the database, and was killed later than that: once more
# would undo what the site has written since. Before the databases change their names the new one's number is noted; under
# the site's name it has taken the place.
leave_restored() {
    [[ -n ${RUN-} && -s $BACKUPS/.restored && $(< "$BACKUPS/.restored") = "$RUN $(number_of "$DATABASE")" ]] || return 0
    open "$DATABASE"
    [[ $KEEP_REPLACED = true ]] || drop "$replaced"
    say "a pod of this Job that was killed has restored the database $DATABASE already: it stays as it is"
    exit 0
}

# Whatever ends the script: the site gets its database back, and of the new one nothing stays.
put_back() {
    local code=$?
    trap - EXIT
    if ((code != 0)); then
        # A server whose volume it filled has to recover first.
        wait_for_server || true
        drop "$new" || true
        ! has "$DATABASE" || open "$DATABASE" || true
    fi
    exit "$code"
}

login
check_rights restore
take_volume
leave_restored
find_backup "$RESTORE"
backup=$found
verify_backup "$backup"
check_room "$backup"

trap put_back EXIT
if has "$DATABASE"; then
    # A run that was killed may have left it closed.
    open "$DATABASE"
    add_extensions_that_are_there
    backing_up=$SECONDS
    make_backup before-restore &
    child=$!
    if wait "$child"; then
        made=$(names | grep -- '-before-restore$' | tail -n 1)
        ! uses_s3 || (copy_to_s3 "$made") || say "the backup $made is on the volume alone"
    else
        replaced=${DATABASE:0:40}_kept_$(date -u +%Y%m%dT%H%M%SZ)
        say "what is there cannot be backed up: it is kept as the database $replaced instead"
    fi
    say "the site has to wait, $(estimate "$(database_bytes "$backup")")"
    close "$DATABASE"
    lacks=$((SECONDS - backing_up))
fi
drop "$new"
began=$SECONDS
say "restoring the backup $backup"
load_backup "$backup" "$new"
# A new database has no statistics: its first queries would be slow ones. An owner is warned of each table of the system.
run as_owner psql --no-psqlrc --no-password --quiet --dbname "$new" --command 'set client_min_messages = error' --command 'analyze'
# Of roles that are gone since there is nothing to give back; the exporter of metrics may have come since. What a backup
# tells is no reason to change what only a superuser can: such a setting, or one of a superuser, comes back where the
# database has it now.
admin --set told="$(< "$BACKUPS/$backup/$TOLD")" --set owner="$(owner)" << 'SQL'
    select format('revoke all on database %I from %I', :'new', :'owner') \gexec
    select format('grant %s on database %I to %s', value ->> 'right', :'new',
            case value ->> 'role' when 'public' then 'public' else to_regrole(value ->> 'role')::text end)
        || case when (value ->> 'grantable')::boolean then ' with grant option' else '' end
    from jsonb_array_elements(:'told'::jsonb -> 'rights')
    where value ->> 'right' in ('CREATE', 'CONNECT', 'TEMPORARY', 'TEMP')
        and (value ->> 'role' = 'public' or to_regrole(value ->> 'role') is not null) \gexec
    -- A list of names is kept as text, in which each is quoted by itself; as one text it would be one name.
    select format(case when value ->> 'role' is null then 'alter database %2$I set %3$I to %4$s'
        else 'alter role %1$I in database %2$I set %3$I to %4$s' end, value ->> 'role', :'new', value ->> 'name',
        case when lower(value ->> 'name') in ('search_path', 'temp_tablespaces', 'session_preload_libraries', 'local_preload_libraries')
            then (select string_agg(quote_literal(coalesce(replace(part[1], '""', '"'), part[2])), ', ' order by place)
                from regexp_matches(value ->> 'value', '"((?:[^"]|"")*)"|([^,[:space:]]+)', 'g') with ordinality as it (part, place))
            else quote_literal(value ->> 'value') end)
    from jsonb_array_elements(:'told'::jsonb -> 'settings')
    where (value ->> 'role' is null or to_regrole(quote_ident(value ->> 'role')) is not null)
        and value ->> 'name' <> 'kubernetes_django.connection_limit'
        and (exists (select from pg_db_role_setting join pg_database as d on d.oid = setdatabase, unnest(setconfig) as setting
                where datname = :'db' and setting = (value ->> 'name') || '=' || (value ->> 'value')
                    and setrole = coalesce(to_regrole(quote_ident(value ->> 'role'))::oid, 0))
            or not exists (select from pg_settings where name = lower(value ->> 'name') and context <> 'user')
                and not exists (select from pg_roles where rolname = value ->> 'role' and rolsuper)) \gexec
    -- A database that an upgrade had closed has its limit of before in that setting.
    select format('alter database %I connection limit %s', :'new', coalesce((
            select (value ->> 'value')::int from jsonb_array_elements(:'told'::jsonb -> 'settings')
            where value ->> 'name' = 'kubernetes_django.connection_limit'), (:'told'::jsonb ->> 'connection_limit')::int, -1)) \gexec
    select format('comment on database %I is %L', :'new', shobj_description(oid, 'pg_database')) from pg_database
    where datname = :'db' \gexec
    select format('grant connect on database %I to %I', :'new', rolname) from pg_roles
    where shobj_description(oid, 'pg_authid') = 'kubernetes-django: metrics' \gexec
SQL
drop "$replaced"
close "$new"
# No room for that is no reason to give up.
{ printf '%s' "${RUN-} $(number_of "$new")" > "$BACKUPS/.restored" && sync -f "$BACKUPS/.restored"; } ||
    say "the volume of the backups takes no note: killed from here on, this restore is repeated"
# Both renames or none.
if has "$DATABASE"; then
    close "$DATABASE"
    admin << 'SQL'
        select format('begin; alter database %I rename to %I; alter database %I rename to %I; alter database %I allow_connections true; commit',
            :'db', :'replaced', :'new', :'db', :'db') as swap \gset
        :swap;
SQL
else
    admin <<< "select format('alter database %I rename to %I', :'new', :'db') \\gexec"
    open "$DATABASE"
fi
trap - EXIT
# It has happened: what fails from here on does not make it a failure.
latest=$(names | grep -v -- -before-restore | tail -n 1) || true
[[ -z $latest ]] || (note_backup "$latest") || true
say "restored the database $DATABASE from the backup $backup in $((SECONDS - began)) s"
if [[ -n ${made-} ]]; then
    say "what it held $lacks s before it was closed is the backup $made"
    if [[ $KEEP_REPLACED != true ]] && drop "$replaced"; then
        say "what was written in those $lacks s is in no copy: postgres_restore_keep_replaced is false"
    else
        say "what it held when it was closed is the database $replaced, until the next restore"
    fi
elif has "$replaced"; then
    say "what it held before could not be backed up, and is the database $replaced, which lets nobody in until you say" \
        "ALTER DATABASE \"$replaced\" ALLOW_CONNECTIONS true; it takes its room until you say DROP DATABASE \"$replaced\""
fi
