-- Run once, on a blank volume, after the generated file that makes the users.

GRANT ALL ON counter_db.* TO 'migrate'@'%';

-- The worker adds rows and updates counts. It removes no row, and makes no table.
GRANT SELECT, INSERT, UPDATE ON counter_db.* TO 'worker'@'%';
-- Except in the audit's account of gaps. The table is not there yet, and a right to a table that
-- is missing can only be granted together with CREATE.
GRANT DELETE, CREATE ON counter_db.audit_gaps TO 'worker'@'%';
REVOKE CREATE ON counter_db.audit_gaps FROM 'worker'@'%';

GRANT SELECT ON counter_db.* TO 'dashboard'@'%';
