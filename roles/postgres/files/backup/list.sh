#!/bin/bash
# Prints what each backup's JSON says and where it is, one a line, then from when to when an archive reaches, and last how
# full the volume is.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

here=$(names)
there=
before=
if uses_s3; then
    there=$(remote_names)
    before=$(remote_names_before)
fi
for name in $(sort -u <<< "$here"$'\n'"$there"$'\n'"$before"); do
    places=
    told=
    if grep -qxF -- "$name" <<< "$here"; then
        places='"volume"'
        told=$(< "$BACKUPS/$name/$TOLD")
    fi
    if grep -qxF -- "$name" <<< "$there"; then
        places+=${places:+, }'"bucket"'
        told=${told:-$(s3 cat "$(remote "$name/$TOLD")")}
    elif grep -qxF -- "$name" <<< "$before"; then
        places+=${places:+, }'"bucket, of no site"'
        told=${told:-$(s3 cat "$(anywhere "$name/$TOLD")")}
    fi
    printf '{"backup": %s, "places": [%s]}\n' "$told" "$places"
done
if [[ -d $BACKUPS/archive || ${ARCHIVE_STORAGE-} = s3 ]] && command -v pgbackrest > /dev/null; then
    bash "$(dirname "$0")/pgbackrest.sh" list
fi
df -Pk "$BACKUPS" | awk 'NR == 2 {printf "{\"volume\": {\"size_bytes\": %.0f, \"used_bytes\": %.0f}}\n", $2 * 1024, $3 * 1024}'
