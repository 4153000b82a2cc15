-- Runs once, on a blank volume, after the generated file that creates the users.

GRANT ALL ON counter_db.* TO 'migrate'@'%';

-- The worker adds rows and updates counts. It deletes no rows and creates no tables.
GRANT SELECT, INSERT, UPDATE ON counter_db.* TO 'worker'@'%';
-- Exceptions are closed gaps in the audit's account, and failures that were served in the end. Their
-- tables do not exist yet, and a right to a missing table can only be granted together with CREATE.
GRANT DELETE, CREATE ON counter_db.audit_gaps TO 'worker'@'%';
GRANT DELETE, CREATE ON counter_db.failures TO 'worker'@'%';
REVOKE CREATE ON counter_db.audit_gaps FROM 'worker'@'%';
REVOKE CREATE ON counter_db.failures FROM 'worker'@'%';

-- The relay numbers, publishes and removes the rows that applications leave. Its tables do not exist
-- yet either.
GRANT SELECT, DELETE, CREATE ON counter_db.outbox TO 'relay'@'%';
GRANT SELECT, UPDATE, CREATE ON counter_db.outbox_relay TO 'relay'@'%';
GRANT SELECT, INSERT, UPDATE, CREATE ON counter_db.outbox_clients TO 'relay'@'%';
GRANT SELECT, INSERT, DELETE, CREATE ON counter_db.outbox_batches TO 'relay'@'%';
REVOKE CREATE ON counter_db.outbox FROM 'relay'@'%';
REVOKE CREATE ON counter_db.outbox_relay FROM 'relay'@'%';
REVOKE CREATE ON counter_db.outbox_clients FROM 'relay'@'%';
REVOKE CREATE ON counter_db.outbox_batches FROM 'relay'@'%';

GRANT SELECT ON counter_db.* TO 'dashboard'@'%';

-- The operators' account, for their actions on the page. These tables do not exist yet either.
GRANT SELECT ON counter_db.* TO 'operator'@'%';
GRANT UPDATE, CREATE ON counter_db.failures TO 'operator'@'%';
GRANT INSERT, UPDATE, CREATE ON counter_db.page_actions TO 'operator'@'%';
GRANT INSERT, DELETE, CREATE ON counter_db.page_logouts TO 'operator'@'%';
REVOKE CREATE ON counter_db.failures FROM 'operator'@'%';
REVOKE CREATE ON counter_db.page_actions FROM 'operator'@'%';
REVOKE CREATE ON counter_db.page_logouts FROM 'operator'@'%';
