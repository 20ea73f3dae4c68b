"""The connection to a Ray cluster, one that is there or one of this process's own."""

from __future__ import annotations

import importlib
import logging
import os
import socket
import warnings
from dataclasses import dataclass
from types import ModuleType

from circuits.errors import CircuitsError
from circuits.options.engine import RayEngine

_HTTP2_BEGINS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS_FRAME = bytes([4])
_ANSWERS = 10.0  # seconds in which an address has to answer
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_raylet_start_wait_time_s": "60",  # a crowded machine takes longer than Ray's 30
    "RAY_gcs_server_port_wait_time_s": "60",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a worker without a device sees none
}


@dataclass(frozen=True)
class Connection:
    """A cluster that this process is connected to.

    ray: the package. workers: how many of the engine's there are to be. own: whether the connection
    was made here, and ends with the work; a Ray of this process's own then ends too.
    """

    ray: ModuleType
    workers: int
    own: bool

    @classmethod
    def to(cls, engine: RayEngine) -> Connection:
        """Connect, and refuse more workers than there is room for."""
        ray = ray_package()
        own = not ray.is_initialized()
        if own:
            _connect(ray, engine)
        try:
            return cls(ray, room(ray.cluster_resources(), engine), own)
        except CircuitsError:
            if own:
                ray.shutdown()
            raise

    def close(self) -> None:
        """Leave the cluster; it ends if it was this process's own."""
        if self.own and self.ray.is_initialized():
            self.ray.shutdown()


def ray_package() -> ModuleType:
    """Ray, set up to be quiet and patient; a CircuitsError says how to install it.

    Returns:
        The module.

    Raises:
        CircuitsError: where it is not installed.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray = importlib.import_module("ray")
            logging.getLogger("ray").setLevel(logging.ERROR)
            return ray
    except ImportError as error:
        raise CircuitsError(
            "the engine ray needs the package ray, which is not installed: pip install "
            "'circuit-discovery[ray]'"
        ) from error


def _connect(ray: ModuleType, engine: RayEngine) -> None:
    settings: dict[str, object] = {"address": engine.address or "local"}
    if engine.address is None:
        settings |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    elif engine.address != "auto":
        _require_answer(engine.address)
    settings |= {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    tries = 2 if engine.address is None else 1  # its parts wait 20 s for each other, then abort
    for left in reversed(range(tries)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ray.init(**settings)
            return
        except Exception as error:  # of many classes, RuntimeError and ValueError among them
            ray.shutdown()
            if left:
                continue
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            where = "on this machine" if engine.address is None else f"at {engine.address!r}"
            raise CircuitsError(f"engine: no Ray {where} ({first})") from error


def _require_answer(address: str) -> None:
    """Refuse an address at which no Ray answers: Ray itself would try for a quarter of an hour.

    Its head speaks HTTP/2, and so answers the beginning of a connection with its settings.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise CircuitsError(f"engine: address {address!r}: write host:port, or auto")
    try:
        with socket.create_connection((host, int(port)), timeout=_ANSWERS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.sendall(_HTTP2_BEGINS)
            if connection.recv(9)[3:4] != _SETTINGS_FRAME:
                raise CircuitsError(f"engine: what answers at address {address!r} is no Ray")
    except (OSError, OverflowError) as error:
        raise CircuitsError(
            f"engine: nothing answers at address {address!r} ({error}); `ray status` on the "
            "cluster's head says whether it runs"
        ) from error


def room(resources: dict[str, float], engine: RayEngine) -> int:
    """How many workers there are to be.

    Args:
        resources: of all machines of the cluster together, as Ray names them.
        engine: settings.

    Returns:
        As many as asked for, or as fit.

    Raises:
        CircuitsError: where there is no room for so many.
    """
    cpus, gpus = (int(resources.get(kind, 0)) for kind in ("CPU", "GPU"))
    fit = cpus // engine.cpus_per_worker
    if engine.gpus_per_worker:
        fit = min(fit, gpus // engine.gpus_per_worker)
    if fit < (engine.workers or 1):
        raise CircuitsError(
            f"engine: {engine.workers or 1} of these workers do not fit: each takes "
            f"{engine.cpus_per_worker} CPUs and {engine.gpus_per_worker} GPUs, and the cluster has "
            f"{cpus} CPUs and {gpus} GPUs in all, room for {fit}"
        )
    return engine.workers or fit
