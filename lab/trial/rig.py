"""The protocol between a trial and the rigged handler in its workers."""

from __future__ import annotations

HANDLER, RIG = "TRIAL_HANDLER", "TRIAL_RIG"
"""The environment variables that name the handler on trial, and the worker's folder."""

LONGEST_HOLD = 12.0
"""Seconds. A worker that is asked to stop meanwhile still has time to stop cleanly."""

AFTER_STATEMENT, AFTER_RETURN = "statement", "return"
"""Where a handler may be held: after its first statement, or when it has returned."""
