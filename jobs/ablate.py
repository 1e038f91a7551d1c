"""The reference paper's ablations (its Table 4): `python jobs/ablate.py [CONFIG] [--set a.b=v …]`, here or by
`ray job submit`.

Without CONFIG: configs/ablations.yaml, on the embedded data set. The same as `distmer compare CONFIG`.
"""

import sys
from pathlib import Path

from distmer.cli import main

if __name__ == "__main__":
    given = sys.argv[1:]
    if not given or given[0].startswith("-"):
        given.insert(0, str(Path(__file__).parents[1] / "configs" / "ablations.yaml"))
    main(["compare", *given])
