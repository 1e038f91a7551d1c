"""Models side by side: `python jobs/compare.py CONFIG [--set a.b=v …]`, here or by `ray job submit`.

The same as `distmer compare`; see `--help`.
"""

import sys

from distmer.cli import main

if __name__ == "__main__":
    main(["compare", *sys.argv[1:]])
