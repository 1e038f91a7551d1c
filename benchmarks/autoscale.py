"""Workers from none to N and back to none: `python -m benchmarks.autoscale [--autoscaler v1|v2] [--workers 3]
[--json FILE]`.

Ray's autoscaler with its fake provider (each node it launches is a raylet on this machine), a head without
CPUs, and a LOSO run whose pending clips and folds are the only demand; each fold asks for a declared GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import keep, machine
from harness import command, nodes, toy

_HEAD = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # as the fake provider names it
_LISTS = (
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "initialization_commands",
    "cluster_synced_files",
)
_LISTS += ("head_start_ray_commands", "worker_start_ray_commands", "rsync_exclude", "rsync_filter")
_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"


def configuration(port: int, workers: int, idle_minutes: float) -> dict[str, Any]:
    """What the `example.yaml` says that Ray's wheel lacks; `external` is the provider type that does not look
    for it."""
    return {
        "cluster_name": "fake",
        **{name: [] for name in _LISTS},
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        "provider": {
            "type": "external",
            "module": _PROVIDER,
            "gcs_address": f"127.0.0.1:{port}",  # else nodes look for a head at port 6379
            "use_node_id_as_ip": True,  # the nodes share this machine's address
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,  # else one node is launched where several were asked for
            "head_node_id": _HEAD,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 1, "GPU": 1},
                "node_config": {},
                "min_workers": 0,
                "max_workers": workers,
            },
        },
        "head_node_type": "ray.head.default",
        "max_workers": workers,
        "idle_timeout_minutes": idle_minutes,
        "upscaling_speed": 100.0,
    }


def watch(
    cluster: nodes.Nodes, home: Path, arguments: list[str], patience: float
) -> tuple[list[dict[str, Any]], command.Ended]:
    """The run, and every change of the number of workers, until there are none."""
    os.environ.update(cluster.driver)
    from ray._raylet import GcsClient  # Ray reads its token when it loads

    gcs = GcsClient(address=cluster.address)
    process = command.start(*arguments, home=home, script=command.DECLARED, **cluster.driver)
    started, rows, seen, ended = time.perf_counter(), list[dict[str, Any]](), 0, 0.0
    while True:
        now = time.perf_counter() - started
        alive = sum(node.state == 0 and not node.is_head_node for node in gcs.get_all_node_info().values())
        running = process.poll() is None
        if not running and not ended:
            ended = now
            rows.append(
                {
                    "second": now,
                    "workers": alive,
                    "folds done": len(command.ledger(home)),
                    "what": "the run has ended",
                }
            )
        if alive != seen:
            what = (
                "joined"
                if alive > seen
                else "gone" + (f", {now - ended:.0f} s after the run" if ended else "")
            )
            rows.append(
                {"second": now, "workers": alive, "folds done": len(command.ledger(home)), "what": what}
            )
            seen = alive
        if ended and (alive == 0 or now - ended > patience):
            return rows, command.finish(process)
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--autoscaler", choices=["v1", "v2"], default="v2")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--idle-minutes", type=float, default=0.25)
    parser.add_argument("--json")
    asked = parser.parse_args()
    begun, folder, port = machine(), Path(tempfile.mkdtemp(prefix="scale-")), command.free_port()
    file = folder / "autoscaling.yaml"
    file.write_text(json.dumps(configuration(port, asked.workers, asked.idle_minutes)))  # JSON is YAML
    extra = {
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD,
        "RAY_CLOUD_INSTANCE_ID": _HEAD,
    }
    extra["RAY_enable_autoscaler_v2"] = str(int(asked.autoscaler == "v2"))
    maps = toy.write_flowmaps(folder / "maps", subjects=8)
    gpus = ["cluster.gpus_per_fold=1", f"cluster.in_flight={asked.workers * 2}", "tracking.enabled=false"]
    with nodes.Nodes((f"--autoscaling-config={file}",), extra, port) as cluster:
        rows, ended = watch(
            cluster, folder / "home", [*toy.settings(maps, *gpus, epochs=30), "--json"], patience=120
        )
        if ended.code or rows[-1]["workers"]:
            print(ended.err[-3000:])
            for log in cluster.logs("monitor*"):
                print(log, log.read_text()[-6000:])
    keep(
        asked.json, begun, rows, autoscaler=asked.autoscaler, idle_minutes=asked.idle_minutes, exit=ended.code
    )


if __name__ == "__main__":
    main()
