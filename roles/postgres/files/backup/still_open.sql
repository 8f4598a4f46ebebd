-- The databases that let people in, with commas between them. While an upgrade copies, and until it has switched, there
-- is none: what is written into one then is not in the copy.
select coalesce(string_agg(datname, ', ' order by datname), '') from pg_database
where datallowconn and not datistemplate and datname <> 'postgres' and datconnlimit <> 0
