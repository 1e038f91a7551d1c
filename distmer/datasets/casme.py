"""CASME (Yan et al. 2013): 60 fps, 19 subjects. Section A is 1280 × 720, section B 640 × 480.

The sheet is CASME-coded-20190721.xls, frames lie in <raw folder>/sub01/EP01_5/.

The sheet has two apex columns. ApexF1 is the one used, as meb does: ApexF2 is a second apex that few clips
have ("\\" elsewhere).
"""

from __future__ import annotations

from distmer.datasets.columns import Columns
from distmer.datasets.layout import HEADINGS, SheetLayout, padded

DATASET = SheetLayout(
    sheets=("CASME-coded*", "casme-coding*", "casme"),
    columns=Columns({**HEADINGS, "apex": ("ApexF1",)}),
    images=("CASME_raw_selected", "CASME_raw", "raw_selected", "raw", "", "CASME_cropped", "Cropped"),
    subject=padded("sub", 2),
    folders=("CASME", "CASME1", "CASMEI"),
).dataset(
    name="casme",
    title="CASME",
    citation="Yan, Wu, Liu, Wang, Fu: CASME database. IEEE FG 2013, doi 10.1109/FG.2013.6553799",
)
