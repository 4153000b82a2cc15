-- Run once, on a blank volume, after the generated file that makes the users.

GRANT ALL ON counter_db.* TO 'migrate'@'%';

-- The worker adds rows and updates counts. It removes no row, and makes no table.
GRANT SELECT, INSERT, UPDATE ON counter_db.* TO 'worker'@'%';
-- Except in the audit's account of gaps, and failures that are served at last. These tables are not
-- there yet, and a right to a table that is missing can only be granted together with CREATE.
GRANT DELETE, CREATE ON counter_db.audit_gaps TO 'worker'@'%';
GRANT DELETE, CREATE ON counter_db.failures TO 'worker'@'%';
REVOKE CREATE ON counter_db.audit_gaps FROM 'worker'@'%';
REVOKE CREATE ON counter_db.failures FROM 'worker'@'%';

-- The relay numbers, publishes and removes what applications leave. The same again: its tables are
-- not there yet.
GRANT SELECT, DELETE, CREATE ON counter_db.outbox TO 'relay'@'%';
GRANT SELECT, UPDATE, CREATE ON counter_db.outbox_relay TO 'relay'@'%';
GRANT SELECT, INSERT, UPDATE, CREATE ON counter_db.outbox_clients TO 'relay'@'%';
GRANT SELECT, INSERT, DELETE, CREATE ON counter_db.outbox_batches TO 'relay'@'%';
REVOKE CREATE ON counter_db.outbox FROM 'relay'@'%';
REVOKE CREATE ON counter_db.outbox_relay FROM 'relay'@'%';
REVOKE CREATE ON counter_db.outbox_clients FROM 'relay'@'%';
REVOKE CREATE ON counter_db.outbox_batches FROM 'relay'@'%';

GRANT SELECT ON counter_db.* TO 'dashboard'@'%';

-- The operators' account: what the page does for them. The same again.
GRANT SELECT ON counter_db.* TO 'operator'@'%';
GRANT UPDATE, CREATE ON counter_db.failures TO 'operator'@'%';
GRANT INSERT, UPDATE, CREATE ON counter_db.page_actions TO 'operator'@'%';
GRANT INSERT, DELETE, CREATE ON counter_db.page_logouts TO 'operator'@'%';
REVOKE CREATE ON counter_db.failures FROM 'operator'@'%';
REVOKE CREATE ON counter_db.page_actions FROM 'operator'@'%';
REVOKE CREATE ON counter_db.page_logouts FROM 'operator'@'%';
