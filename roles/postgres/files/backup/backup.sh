#!/bin/bash
# Makes a backup of the kind $KIND: a dump that was read to its end, on the volume and, if wanted, in a bucket; then
# deletes the backups that retention leaves out.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

login
trap '(($? == 0)) || note_failure backup || true' EXIT
take_volume
make_backup "$KIND"
# First: a bucket that refuses is no reason for a volume that fills.
delete_superfluous
if uses_s3; then
    copy_to_s3 "$made"
    delete_superfluous_in_s3
fi
note_backup "$made"
say "the volume of the backups has $(free_space)"
