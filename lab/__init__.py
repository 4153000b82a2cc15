"""Servers of one's own, and what is shown and proved on them. Nothing else imports this."""
