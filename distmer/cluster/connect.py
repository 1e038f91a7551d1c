"""Joining a Ray cluster, or starting one on this machine for the length of a run."""

from __future__ import annotations

import functools
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from distmer.config import ClusterConfig
from distmer.plugins import places_to_ship
from distmer.process import environment
from distmer.types import BadInput, RunError

_log = logging.getLogger(__name__)
_CONNECT_SECONDS = 10.0
_STARTS = 3  # tries to start a local Ray


@functools.cache
def _own_token() -> str:
    """Of all clusters that this process starts: Ray reads a token once. It is on no disk."""
    return secrets.token_hex(32)


def _settings(config: ClusterConfig, address: str | None) -> dict[str, str]:
    """What Ray reads in the environment. Token authentication is on unless the environment says otherwise."""
    found = {
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a task that asked for no GPU sees none
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "120",  # s; 60 are too few on a busy machine
        "RAY_task_oom_retries": str(config.retries),  # Ray's own default is for ever: the run would never end
    }
    own_token = address is None and os.environ.get("RAY_AUTH_MODE", "token") == "token"
    if own_token and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        found["RAY_AUTH_TOKEN"] = _own_token()
    return found


@contextmanager
def session(config: ClusterConfig, *, groups: bool = False) -> Iterator[None]:
    """A connection to Ray: to the configured cluster, the one to which this job was submitted, or a local one
    that ends with it.

    ``groups``: whether folds may become worker groups though none are asked for. RunError when the cluster
    cannot be reached.
    """
    address = config.named(os.environ)
    with environment(_settings(config, address)):
        _answers(address)
        import ray  # after the environment is settled: Ray reads it when it loads

        asked_to_stop = signal.getsignal(signal.SIGTERM)
        try:
            if address is None:
                _start(config, groups=groups or config.workers_per_fold not in (0, "auto"))
            else:
                ray.init(address=address, logging_level=logging.ERROR, runtime_env=_what_the_user_brings())
        except SystemExit as ended:  # SIGTERM came while Ray was starting, and Ray's own handler answered it
            raise KeyboardInterrupt from ended
        except (ConnectionError, RuntimeError, ValueError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise RunError(
                f"Ray at {address or 'local'} cannot be reached ({first}); check cluster.address or"
                " RAY_ADDRESS and the token (RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH), or run with --local."
            ) from error
        if threading.current_thread() is threading.main_thread():
            # Ray's own handler ends the process at once, and partial results would not be written.
            signal.signal(signal.SIGTERM, asked_to_stop)
        try:
            if address is None:
                _suffices(config, ray.cluster_resources())
            yield
        finally:
            ray.shutdown()


def _start(config: ClusterConfig, *, groups: bool) -> None:
    """A local Ray. RunError where one of its processes does not come up in three tries: Ray has limits of its
    own, and a machine may be too busy for them."""
    import ray

    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=config.local_cpus,
                num_gpus=config.local_gpus,
                # needed by the cleaner of a Train worker group alone, which else warns every second
                include_dashboard=groups,
                logging_level=logging.ERROR,
                runtime_env=_what_the_user_brings(),
            )
            return
        except Exception as error:
            ray.shutdown()
            if type(error) is not Exception:  # Ray has no class for a process of its own that does not start
                raise
            if attempt == _STARTS:
                raise RunError(
                    f"Ray could not be started on this machine, {_STARTS} times in a row"
                    f" ({_why_not_started(error)}). The machine may be too busy. Run the same command again"
                    " later, or run with --local."
                ) from error
            _log.warning(
                "Ray did not start (%s). This machine may be busy. Ray is started again.",
                _why_not_started(error),
            )


def _why_not_started(error: Exception) -> str:
    """What Ray says, in a few words: for its dashboard it gives twenty lines of a log."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
    return "its dashboard did not start" if "dashboard" in first else first.partition(". ")[0]


def _what_the_user_brings() -> dict[str, Any] | None:
    """The user's own modules, which travel with the job and need not be installed on the nodes."""
    modules = places_to_ship()
    return {"py_modules": modules} if modules else None


def _suffices(config: ClusterConfig, there: Mapping[str, float]) -> None:
    """BadInput where a fold asks for more than a local cluster has, which nothing else will join."""
    for name, setting, asked in (
        ("CPU", "cpus_per_fold", config.cpus_per_fold),
        ("GPU", "gpus_per_fold", config.gpus_per_fold),
    ):
        if asked * config.workers > there.get(name, 0.0):
            raise BadInput(
                f"cluster.{setting} asks for {asked * config.workers:g} {name} a fold, but this machine has"
                f" {there.get(name, 0.0):g}; lower it, or name a cluster in cluster.address or RAY_ADDRESS."
            )


def _answers(address: str | None) -> None:
    """RunError at once if nothing listens at HOST:PORT; Ray would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if not host or "://" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise RunError(
            f"Ray at {address} cannot be reached ({error}); check cluster.address or RAY_ADDRESS, the cluster"
            " and the tunnel to it, or run with --local."
        ) from error
