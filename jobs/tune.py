"""A hyperparameter sweep: `python jobs/tune.py SWEEP.yaml [--set a.b=v …]`, here or by `ray job submit`.

The same as `distmer sweep`; see `--help`.
"""

import sys

from distmer.cli import main

if __name__ == "__main__":
    main(["sweep", *sys.argv[1:]])
