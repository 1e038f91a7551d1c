"""Which tasks Ray has begun more than once, by its own record: `python -m tests.attempts HOST:PORT` prints {name: attempts beyond the first}.

A process of its own, because Ray reads tokens when it loads, and the tests' own process talks to other clusters.
"""

import collections
import json
import sys

from ray._private.state import GlobalState
from ray._raylet import GcsClientOptions


def main(address: str) -> None:
    state = GlobalState()
    state._initialize_global_state(GcsClientOptions.create(address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False))
    again: collections.Counter[str] = collections.Counter()
    for event in state._get_all_task_events():
        if event.attempt_number > 0:
            again[event.task_info.name or event.task_id.hex()] += 1
    print(json.dumps(again))


if __name__ == "__main__":
    main(sys.argv[1])
