"""The figures of Table 3 of Zhao et al. 2024, the reference paper (cited in `distmer/models/atscnn.py`).

These are what the paper prints, digit for digit: compare them with what `distmer.costs.counting` counts.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Printed:
    """One row of the table: the costs of one variant of a model for maps of ``size`` px. ``mflops`` are
    millions of operations; ``memory_mb`` is the memory traffic in MB of 2^20 bytes."""

    parameters: str
    mflops: str
    memory_mb: str
    variant: str = "paper"
    size: int = 128  # px


TABLE_3 = {
    "ststnet": Printed("4.98e7", "57.45", "192.98", "reference"),
    "dual_inception": Printed("1.34e8", "264.15", "546.62", "reference"),
    "macnn": Printed("8.63e7", "1040", "366.72", "reference"),
    "micro_attention": Printed("1.88e7", "327.35", "82.89", "reference"),
    "off_tanet": Printed("67,083", "39.29", "7.33"),
    "mini_aorcnn": Printed("46,251", "16.39", "4.84", "reference"),
    "atscnn": Printed("4.21e?", "19.01", "20.5"),  # the exponent is not legible
}
