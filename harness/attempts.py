"""Which tasks ran in an attempt after their first, by Ray's own record: `python -m harness.attempts
HOST:PORT` prints {name: tasks}.

A process of its own, because Ray reads tokens when it loads, and the tests' own process talks to other
clusters.
"""

import collections
import json
import sys

from ray._private.state import GlobalState
from ray._raylet import GcsClientOptions
from ray.core.generated.common_pb2 import TaskStatus


def main(address: str) -> None:
    state = GlobalState()
    state._initialize_global_state(
        GcsClientOptions.create(address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False)
    )
    names: dict[bytes, str] = {}
    again: set[bytes] = set()
    for event in state._get_all_task_events():
        names[event.task_id] = event.task_info.name or names.get(event.task_id, "")
        if event.attempt_number and TaskStatus.Value("RUNNING") in event.state_updates.state_ts_ns:
            again.add(event.task_id)
    print(json.dumps(collections.Counter(names[task] for task in again)))


if __name__ == "__main__":
    main(sys.argv[1])
