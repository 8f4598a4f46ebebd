#!/bin/bash
# Proves that the latest backup can be restored: into a database of its own, whose rows are counted, and which is then
# dropped. The site does not notice.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

scratch=${DATABASE:0:50}_drill
drop() {
    # A server whose volume it filled has to recover first.
    wait_for_server
    sql postgres --set name="$scratch" <<< "select format('drop database if exists %I with (force)', :'name') \\gexec"
}

login
trap '(($? == 0)) || note_failure drill || true' EXIT
check_rights drill
take_volume
find_backup latest
verify_backup "$found"
check_room "$found"
trap '(($? == 0)) || note_failure drill || true; drop' EXIT
drop
began=$SECONDS
add_extensions_that_are_there
load_backup "$found" "$scratch"
counted=$(as_owner count_rows "$scratch")
awk -F '|' '{printf "  %12d rows in %s\n", $2, $1}' <<< "$counted"
read -r tables rows < <(awk -F '|' '{rows += $2} END {print NR, rows}' <<< "$counted")
seconds=$((SECONDS - began))
note drill "$(as_owner sql "$DATABASE" --set name="$found" --set tables="$tables" --set rows="$rows" --set seconds="$seconds" \
    --set bytes="$(size_of "$scratch")" << 'SQL'
    select jsonb_build_object('backup', :'name', 'finished_at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        'tables', :tables, 'rows', :rows, 'seconds', :seconds, 'bytes', :bytes)
SQL
)"
say "drill passed: the backup $found was restored in $seconds s, $tables tables with $rows rows"
