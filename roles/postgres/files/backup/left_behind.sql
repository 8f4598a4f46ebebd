-- What an upgrade does not copy and restores promise to keep, with commas between them: databases that nobody may connect
-- to, and the data from before restores to a moment. After the upgrade the old volume alone has it.
select coalesce(string_agg(what, ', ' order by what), '') from (
    select format('database %s', datname) as what from pg_database where not datallowconn and datname <> 'template0'
    union all
    select format('directory %s', regexp_replace(path, '.*/', ''))
    from unnest(array['.original', '.replaced']) as ending, concat(current_setting('data_directory'), ending) as path
    where (pg_stat_file(path, true)).isdir
) as it
