-- What a person wants to know of the server, a line each; what is done on its own behalf is no client.
SELECT 'PostgreSQL ' || current_setting('server_version') || ', up since '
  || to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC';
SELECT 'size ' || pg_size_pretty(pg_database_size(current_database()));
SELECT count(*) || ' of ' || current_setting('max_connections')::int
  - current_setting('superuser_reserved_connections')::int || ' connections used'
  FROM pg_stat_activity WHERE COALESCE(backend_type, 'client backend') = 'client backend' AND datname IS NOT NULL
  AND pid <> pg_backend_pid();
SELECT 'longest transaction ' || COALESCE(round(extract(epoch FROM max(now() - xact_start))) || ' s', 'none')
  FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid();
SELECT 'archive ' || CASE
    WHEN COALESCE(last_failed_time > last_archived_time, last_failed_time IS NOT NULL) THEN 'has refused the log since '
      || COALESCE(to_char(last_archived_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC', 'it was begun')
      || ': it piles up beside the data'
    ELSE COALESCE('took the log ' || round(extract(epoch FROM now() - last_archived_time)) || ' s ago', 'has no log yet')
  END FROM pg_stat_archiver WHERE current_setting('archive_mode') <> 'off';
