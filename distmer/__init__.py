"""distmer: leave-one-subject-out micro-expression recognition on Ray, honest by construction."""

__version__ = "0.1.0"
