-- Opens the databases that upgrade.sh has closed: each has its limit of connections from before in a setting of its own.
-- Where none is closed, it does nothing.
do $$
declare
    closed record;
begin
    for closed in
        select datname, split_part(setting, '=', 2) as connections
        from pg_db_role_setting join pg_database on oid = setdatabase, unnest(setconfig) as setting
        where setrole = 0 and setting like 'kubernetes_django.connection_limit=%'
    loop
        execute format('alter database %I connection limit %s', closed.datname, closed.connections);
        execute format('alter database %I reset kubernetes_django.connection_limit', closed.datname);
    end loop;
end $$;
