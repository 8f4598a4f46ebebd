#!/bin/sh
# minikube with the directory of this file first on PATH: where no systemd runs, a systemctl that says so lies there.
here=$(dirname "$(readlink -f "$0")")
PATH=$here:$PATH exec "$here/../current/bin/minikube" "$@"
