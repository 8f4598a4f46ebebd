#!/bin/sh
# Runs on the root file system $1 before PostgreSQL's packages are installed.
set -eu
# The user and group of the official image; Debian's package takes the next free numbers.
echo 'postgres:x:999:999:PostgreSQL:/var/lib/postgresql:/bin/bash' >> "$1/etc/passwd"
echo 'postgres:x:999:' >> "$1/etc/group"
# The entrypoint makes the database, on the volume.
mkdir -p "$1/etc/postgresql-common"
echo 'create_main_cluster = false' > "$1/etc/postgresql-common/createcluster.conf"
