#!/bin/sh
# The root file system of the Python base image: rootfs.sh OUT.tar
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# Compiled modules are looked up without comparing time stamps, which do not survive the way into an image layer:
# a mismatch would compile the standard library anew at every start.
exec "$here/../debian.sh" "$1" trixie \
    --include=ca-certificates,netbase,python3,python3-venv,tzdata \
    --customize-hook='chroot "$1" python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3.13'
