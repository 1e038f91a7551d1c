"""A learning curve: `python jobs/curve.py [CONFIG] [--set a.b=v …]`, here or by `ray job submit`.

The same as `distmer curve`; see `--help`.
"""

import sys

from distmer.cli import main

if __name__ == "__main__":
    main(["curve", *sys.argv[1:]])
