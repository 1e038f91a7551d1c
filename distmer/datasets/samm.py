"""SAMM (Davison et al. 2018): 200 fps, gray, 32 subjects.

The sheet is SAMM_Micro_FACS_Codes_v2.xlsx, frames lie in SAMM/006/006_1_2/006_05562.jpg.

The sheet's header stands on line 14, frame numbers are absolute, and subjects lose their zeros in Excel ("6"
is "006"). ``errata.yaml`` corrects three apices of the copies that circulate uncorrected.
"""

from __future__ import annotations

from distmer.datasets.columns import Columns
from distmer.datasets.layout import HEADINGS, SheetLayout, padded

DATASET = SheetLayout(
    sheets=("SAMM_Micro_FACS_Codes*", "SAMM*FACS*", "samm"),
    columns=Columns(HEADINGS, {"objective": ("Objective Classes", "Objective Class")}),
    images=("SAMM", "SAMM_raw", "raw", "", "SAMM_cropped", "SAMM_CROP", "Cropped"),
    subject=padded("", 3),
    folders=("SAMM",),
).dataset(
    name="samm",
    title="SAMM",
    citation="Davison, Lansley, Costen, Tan, Yap: SAMM. IEEE Trans. Affective Computing 9(1):116-129,"
    " 2018, doi 10.1109/TAFFC.2016.2573832",
)
