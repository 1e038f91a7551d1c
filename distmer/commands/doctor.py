"""`distmer doctor`: is this cluster, as the driver sees it, fit for a run?"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from distmer.code import code_of
from distmer.commands.session import Session
from distmer.config import Config
from distmer.experiment import health
from distmer.experiment.health import Check
from distmer.features.methods import acting_methods
from distmer.functions import of_training
from distmer.models import resolve
from distmer.types import BadInput, RunError


def check_up(
    session: Session, *, gpus: int = 0, wait: float = 600.0, timeout: float = 60.0
) -> Iterator[Check]:
    """Checks of the driver, of the tracking server, and of every node. ``wait``: s for ``gpus`` to join the
    cluster; ``timeout``: s for all nodes to answer."""
    config = session.config
    store = str(session.workspace.root)
    roots = (config.data.root, *config.data.roots.values())
    data, key = tuple(root for root in roots if root), f"doctor-{secrets.token_hex(4)}"
    probe = health.Probe(store, key, data, config.features.landmarks, code_behind(config))
    try:
        unwritten = health.place_probe(probe)
        here = health.examine(probe, "here")
        if unwritten:  # the reason, where the driver itself would only miss what it wrote
            here = replace(here, storage=unwritten)
        yield from health.judge_machine("driver", here, here, shared=True)
        yield _tracking(session)
        shared = "://" in store or config.cluster.workers_per_fold not in (0, "auto")
        # Ray is looked at last, and loads its environment then
        from distmer.cluster.connect import session as ray_session

        try:
            with ray_session(config.cluster):
                from distmer.cluster.doctor import ask_nodes, wait_for_gpus

                if gpus:
                    yield _joined(wait_for_gpus(gpus, wait), gpus, wait)
                for answer in ask_nodes(probe, timeout):
                    yield from health.judge(here, answer, shared=shared)
        except RunError as error:
            yield Check("driver", "ray", False, str(error))
    finally:
        with suppress(*health.UNFIT):
            health.remove_probe(probe)


def code_behind(config: Config) -> dict[str, str]:
    """The digests of all code behind a fold of this configuration, its features and user code included."""
    model = resolve(config.model)
    functions = list(of_training(config.train)) if model.info.kind == "torch" else []
    if found := acting_methods(config):
        functions += [found.flow.function, found.strain.function]
    return code_of(model.module, model.info.kind, [function.module for function in functions])


def _joined(there: float, wanted: int, wait: float) -> Check:
    trouble = f"{there:g} of {wanted} GPUs in the cluster after {wait:g} s" if there < wanted else ""
    remedy = "`ray monitor cluster.yaml` says why no node came: a quota, no spot machine, or max_workers"
    return Check.of("cluster", "gpus", trouble, f"{there:g} in the cluster", remedy)


def _tracking(session: Session) -> Check:
    if not session.config.tracking.enabled:
        return Check("driver", "tracking", True, "off")
    from distmer.tracking.mlflow_tracker import reach  # mlflow takes seconds to load

    try:
        uri, _ = session.tracking_store
    except BadInput as error:  # a run would be refused; the nodes are to be looked at all the same
        return Check("driver", "tracking", False, str(error))
    found, trouble = reach(uri)
    remedy = "runs go on without it, and `distmer track` writes them later"
    return Check.of("driver", "tracking", trouble, found, remedy)
