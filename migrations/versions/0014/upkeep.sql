-- Whether it is the caller who does this piece of the service's own work, once in so many seconds for all workers. The
-- library's table says who was first, as for its own periodic tasks.
CREATE FUNCTION crm_take_turn(work text, seconds bigint, OUT taken boolean) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    place bigint := floor(extract(epoch FROM clock_timestamp()) / greatest(seconds, 1)) * greatest(seconds, 1);
BEGIN
    INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp) VALUES (work, place) ON CONFLICT DO NOTHING;
    taken := FOUND;
    IF taken THEN
        DELETE FROM procrastinate_periodic_defers WHERE task_name = work AND defer_timestamp < place;
    END IF;
END $$;
-- From now on it may be late.
INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp) VALUES ('upkeep', extract(epoch FROM now()));
-- The function that erases a record runs as the owner.
REVOKE ALL ON job_files FROM crm_maintenance;
GRANT USAGE ON SEQUENCE procrastinate_periodic_defers_id_seq TO crm_maintenance;
GRANT EXECUTE ON FUNCTION crm_take_turn(text, bigint) TO crm_service;
