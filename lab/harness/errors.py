"""Errors of the lab itself."""

from turnwise.errors import ExitCode, TurnwiseError


class LabError(TurnwiseError):
    """The lab cannot do that."""

    exit_code = ExitCode.CONFIG
