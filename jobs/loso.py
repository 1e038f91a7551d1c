"""Leave one subject out, from clips to scores: `python jobs/loso.py [CONFIG] [--set a.b=v …]`, here or by
`ray job submit`.

The same as `distmer run`; see `--help`.
"""

import sys

from distmer.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
