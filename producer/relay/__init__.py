"""The relay: numbers and publishes the rows that applications insert into table ``outbox``."""
