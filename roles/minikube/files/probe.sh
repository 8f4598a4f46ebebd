#!/bin/sh
# Prints what this machine offers, one name=value a line. Changes nothing.
# Usage: PYTHON=… probe.sh DIRECTORY WHAT:PACKAGE…
#   PYTHON: whose pip is looked for.
#   DIRECTORY: where the built programs will lie; its free space is reported.
#   WHAT: a program, or a path (with wildcards); its package is reported as missing when it is not there.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
directory=$1
shift

say() { printf '%s=%s\n' "$1" "$2"; }
answer() { if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }
found() {
  # shellcheck disable=SC2086  # the wildcards are meant
  case $1 in
    */*) set -- $1 && [ -e "$1" ] ;;
    *) command -v "$1" ;;
  esac
}

say system "$(uname -s)"
say arch "$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')"
say uid "$(id -u)"
say docker "$(answer timeout 10 docker info)"
say podman "$(answer timeout 10 podman info)"
say minikube "$(command -v minikube)"
say apt "$(answer command -v apt-get)"
say go "$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//')"
say pip "$(answer "$PYTHON" -c 'import pip')"
say systemd "$(answer test -d /run/systemd/system)"
say cgroup "$(stat -f -c %T /sys/fs/cgroup 2>/dev/null)"
# containerd lowers its sandboxes' score to -998, which needs CAP_SYS_RESOURCE.
say oom_score_adj "$(answer sh -c 'echo -998 > /proc/self/oom_score_adj')"
say memory_mb "$(awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo 2>/dev/null)"

while [ ! -d "$directory" ]; do directory=$(dirname "$directory"); done
say disk_mb "$(df -Pm "$directory" | awk 'NR == 2 {print $4}')"

missing=
for pair; do
  found "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
say missing "${missing# }"
