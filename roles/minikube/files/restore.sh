#!/bin/sh
# Leads the host back to what it was before: removes paths and packages that were not there, restores files and kernel
# settings that were.
# Usage: restore.sh RECORD PATH…
#   RECORD: the directory that tasks/record.yml wrote. It goes last, so an interrupted run can be run again.
set -eu
record=$1
shift

for path; do
  # What was there stays, or comes back from its copy.
  if grep -qxF "$path" "$record/before" && [ ! -e "$record/files$path" ]; then continue; fi
  if [ ! -e "$path" ] && [ ! -L "$path" ] && [ ! -e "$record/files$path" ]; then continue; fi
  # A volume may still be mounted in there; deleting would reach its files.
  if awk -v path="$path" '$5 == path || index($5, path "/") == 1 {found = 1} END {exit !found}' /proc/self/mountinfo; then
    echo "$path still has mounts in it: unmount them and run this again" >&2
    exit 1
  fi
  rm -rf "$path"
  if [ -e "$record/files$path" ]; then cp -a "$record/files$path" "$path"; fi
done

while read -r name values; do
  # Written only where it differs: a container may read all of them and write few.
  [ ! -e "/proc/sys/$name" ] || [ "$(cat "/proc/sys/$name")" = "$values" ] ||
    printf '%s\n' "$values" > "/proc/sys/$name"
done < "$record/sysctls"

# dpkg, unlike apt-get, never takes along what depends on them: a package that somebody needs by now stays, with a word.
installed=
# shellcheck disable=SC2013  # names of packages hold no spaces
for package in $(sort -u "$record/packages"); do
  if dpkg-query --show --showformat '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^[irp]'; then
    installed="$installed $package"
  fi
done
# sudo would refuse where root has no password, which is how things were before.
# shellcheck disable=SC2086  # nor here
[ -z "$installed" ] || SUDO_FORCE_REMOVE=yes dpkg --purge $installed || true

rm -rf "$record"
rmdir "$(dirname "$record")" 2>/dev/null || true
