#!/bin/bash
# A PostgreSQL of this machine's programs in a folder of its own:
#   server.sh start FOLDER ADDRESS PORT    with TLS, a database, an owner and an app role (OWNER_PASSWORD, APP_PASSWORD)
#   server.sh stop FOLDER
set -euo pipefail
folder=$2
programs=$(find /usr/lib/postgresql -name bin | sort -V | tail -n 1)
run() { (cd / && runuser -u postgres -- "$programs/$@"); }

if [ "$1" = stop ]; then
    [ ! -e "$folder/data/postmaster.pid" ] || run pg_ctl -D "$folder/data" -m immediate -w stop
    rm -rf "$folder"
    exit
fi
address=$3 port=$4
rm -rf "$folder"
mkdir -m 700 "$folder"
echo "$address" > "$folder/host"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=external \
    -addext "subjectAltName=IP:$address" -keyout "$folder/server.key" -out "$folder/server.crt" 2> "$folder/openssl.log"
chown -R postgres: "$folder"
run initdb -D "$folder/data" -U postgres --auth=trust -N > "$folder/initdb.log"
cat >> "$folder/data/postgresql.conf" << EOF
port = $port
listen_addresses = '$address'
unix_socket_directories = '$folder'
ssl = on
ssl_cert_file = '$folder/server.crt'
ssl_key_file = '$folder/server.key'
fsync = off
EOF
printf 'local all postgres trust\nhostssl all all all scram-sha-256\n' > "$folder/data/pg_hba.conf"
run pg_ctl -D "$folder/data" -w -l "$folder/log" start > "$folder/start.log"
run psql -q -h "$folder" -p "$port" -U postgres -v "owner=$OWNER_PASSWORD" -v "app=$APP_PASSWORD" << 'EOF'
CREATE ROLE kubernetes_django_owner LOGIN PASSWORD :'owner';
CREATE ROLE kube_boss LOGIN PASSWORD :'app';
CREATE DATABASE kubernetes_django OWNER kubernetes_django_owner;
\c kubernetes_django
GRANT USAGE ON SCHEMA public TO kube_boss;
EOF
