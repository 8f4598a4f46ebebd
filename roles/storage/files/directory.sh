# Makes the directory of a hostPath volume ready for PostgreSQL's user, or deletes it: `prepare` or `delete`.
#
# DIRECTORY: the directory, as seen from here.
# SITE_PATH: the same, as people know it: storage_path.
# OWNER:     the uid that PostgreSQL runs as.
set -eu

owner_now() { stat -c %u "$DIRECTORY"; }

case $1 in
    prepare)
        if [ -e "$DIRECTORY" ] && [ -n "$(ls -A "$DIRECTORY")" ] && [ "$(owner_now)" != "$OWNER" ]; then
            ls -la "$DIRECTORY" | head -n 5
            echo "storage_path: $SITE_PATH on the node is not empty and belongs to user $(owner_now), not $OWNER." \
                "Choose another storage_path, or: chown -R $OWNER:$OWNER $SITE_PATH"
            exit 1
        fi
        install -d -o "$OWNER" -g "$OWNER" -m 0700 "$DIRECTORY"
        ;;
    delete)
        [ -e "$DIRECTORY" ] || exit 0
        if [ "$(owner_now)" != "$OWNER" ]; then
            echo "no data deleted: storage_path $SITE_PATH belongs to user $(owner_now), not to PostgreSQL's $OWNER"
            exit 0
        fi
        echo "deleted $SITE_PATH, $(du -sh "$DIRECTORY" | cut -f 1)"
        rm -rf "$DIRECTORY"
        ;;
esac
