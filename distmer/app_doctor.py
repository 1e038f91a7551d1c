"""`distmer doctor`: is this cluster, as the driver sees it, fit for a run?"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress

from distmer.app import Session
from distmer.experiment.health import Check, Probe, examine, judge, judge_machine, place_probe, remove_probe
from distmer.storage import Store
from distmer.types import BadInput, RunError


def check_up(session: Session, *, gpus: int = 0, wait: float = 600.0, timeout: float = 60.0) -> Iterator[Check]:
    """Checks as they are made: the driver, the tracking server, then every node. ``wait``: s for ``gpus`` to join the cluster,
    ``timeout``: s for all nodes to answer."""
    config = session.config
    store = str(Store(session.workspace.root).uri)
    roots = (config.data.root, *config.data.roots.values())
    probe = Probe(store, f"doctor-{secrets.token_hex(4)}", tuple(root for root in roots if root), config.features.landmarks)
    try:
        with suppress(OSError, BadInput):  # the driver's own check says what is wrong
            place_probe(probe)
        here = examine(probe, "here")
        yield from judge_machine("driver", here, here, shared=True)
        yield _tracking(session)
        shared = "://" in store or config.cluster.workers_per_fold > 0
        from distmer.cluster.connect import session as ray_session  # Ray is looked at last, and loads its environment then

        try:
            with ray_session(config.cluster):
                from distmer.cluster.doctor import ask_nodes, wait_for_gpus

                if gpus:
                    yield _joined(wait_for_gpus(gpus, wait), gpus, wait)
                for answer in ask_nodes(probe, timeout):
                    yield from judge(here, answer, shared=shared)
        except RunError as error:
            yield Check("driver", "ray", False, str(error))
    finally:
        with suppress(OSError, BadInput):
            remove_probe(probe)


def _joined(there: float, wanted: int, wait: float) -> Check:
    trouble = f"{there:g} of {wanted} GPUs in the cluster after {wait:g} s" if there < wanted else ""
    remedy = "`ray monitor cluster.yaml` says why no node came: a quota, no spot machine to be had, or max_workers"
    return Check.of("cluster", "gpus", trouble, f"{there:g} in the cluster", remedy)


def _tracking(session: Session) -> Check:
    if not session.config.tracking.enabled:
        return Check("driver", "tracking", True, "off")
    from distmer.tracking.mlflow_tracker import reach  # mlflow takes seconds to load

    uri, _ = session.tracking_store
    found, trouble = reach(uri)
    return Check.of("driver", "tracking", trouble, found, "runs go on without it, and `distmer track` writes them later")
