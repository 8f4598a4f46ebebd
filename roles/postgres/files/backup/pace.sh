# How long the work on a database takes: an estimate before it, its progress, and an end to it when it takes too long.
# common.sh and pgbackrest.sh source it; the latter watches alone, for the rest asks a server by common.sh's sql.
#
#   JOBS        how many tables or indexes are worked on at once: the limit of CPU, in whole cores
#   DEADLINE    seconds after which a script ends as failed; 0: as many as the size of the data asks for
# shellcheck shell=bash

JOBS=${JOBS:-2} DEADLINE=${DEADLINE:-0}
# Bytes of a database a second: what a restore does where no drill has measured it here; and what is too slow to go on.
USUAL_RATE=10000000 SLOWEST_RATE=1000000
# Work on an empty database may take so long too.
LEAST_SECONDS=3600
LOOK_SECONDS=${LOOK_SECONDS:-5}

# How many bytes the database $1 has; 0 where it does not exist.
size_of() {
    sql postgres --set name="$1" <<< "select coalesce((select pg_database_size(oid) from pg_database where datname = :'name'), 0)"
}

# How long a restore of $1 bytes takes, at the rate of the last drill where one was made.
estimate() {
    local rate=""
    rate=$(sql postgres 2> /dev/null << 'SQL'
        select ((told ->> 'bytes')::numeric / greatest((told ->> 'seconds')::numeric, 1))::bigint
        from (select shobj_description(oid, 'pg_database')::jsonb -> 'kubernetes_django' -> 'drill' as told
            from pg_database where datname = :'db') as it
SQL
    ) || true
    if ((${rate:-0} > 0)); then
        printf 'about %s for %s at the rate of the last drill' "$(duration $(($1 / rate + 1)))" "$(megabytes "$1")"
    else
        printf 'about %s for %s, which no drill has measured here' "$(duration $(($1 / USUAL_RATE + 1)))" "$(megabytes "$1")"
    fi
}
duration() { if (($1 < 120)); then printf '%d s' "$1"; else printf '%d minutes' $((($1 + 59) / 60)); fi; }
megabytes() { printf '%d MB' $((($1 + 999999) / 1000000)); }

# Says in the background how many per cent of $2 bytes are done, as the command after it tells, until end_watch; ends the
# script when that takes too long for a database of $1 bytes.
watch() {
    local limit=$DEADLINE
    ((limit > 0)) || limit=$((LEAST_SECONDS + $1 / SLOWEST_RATE))
    keep_watch "$limit" "$@" &
    watcher=$!
}
keep_watch() {
    local began=$SECONDS percent said=0
    trap - INT TERM USR1 EXIT
    # The locks are the script's.
    [[ -z ${lock-} ]] || exec {lock}>&-
    [[ -z ${data_lock-} ]] || exec {data_lock}>&-
    # A sleep that outlives its watch holds no pipe of the script open.
    while sleep "$LOOK_SECONDS" > /dev/null 2>&1 && kill -0 $$ 2> /dev/null; do
        if ((SECONDS - began > $1)); then
            printf '%s\n' "postgres_backup_deadline: $(megabytes "$2") were not done after $(duration "$1")." | tee "$SCRATCH/cause" >&2
            kill -USR1 $$
            return
        fi
        percent=$("${@:4}" 2> /dev/null) || continue
        percent=$(($3 > 0 ? percent * 100 / $3 : 0))
        if ((percent > said && percent < 100)); then
            said=$percent
            say "$percent % after $(duration $((SECONDS - began)))"
        fi
    done
}
end_watch() {
    kill "${watcher-}" 2> /dev/null || true
    wait "${watcher-}" 2> /dev/null || true
}
trap 'kill "${child:-}" 2> /dev/null; exit 1' USR1
