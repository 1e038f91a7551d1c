"""`distmer data check`: what a protocol finds on this disk."""

from __future__ import annotations

from distmer.commands.session import Session
from distmer.datasets import check_report


def check_data(session: Session) -> str:
    """Counts of a protocol against the published ones, and every row that cannot be used."""
    return check_report(session.manifest())
