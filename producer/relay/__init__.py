"""The third door: what applications left in the table ``outbox``, numbered and published."""
