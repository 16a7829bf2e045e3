"""The method of test-time self-improvement, and the nouns everybody shares."""


class ReportedError(Exception):
    """An error whose message says all that an operator needs. It quotes no user and no model."""
