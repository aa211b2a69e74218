-- Who takes a delivery no longer moves the time at which it is due. So the order of a record's events stays what it was,
-- also if a worker dies.
ALTER TABLE webhook_deliveries ADD COLUMN IF NOT EXISTS claimed_until timestamptz;
ALTER TABLE webhook_deliveries DROP CONSTRAINT IF EXISTS webhook_deliveries_years_check;
GRANT UPDATE (claimed_until) ON webhook_deliveries TO crm_service;
GRANT SELECT (claimed_until) ON webhook_deliveries TO crm_maintenance;
