"""Features of all clips of a protocol, into the store: `python jobs/extract.py [CONFIG] [--set a.b=v …]`,
here or by `ray job submit`.

The same as `distmer features`; see `--help`.
"""

import sys

from distmer.cli import main

if __name__ == "__main__":
    main(["features", *sys.argv[1:]])
