"""The client library: what a controller, an operator or a script needs to work with a cluster.

Names are loaded on first use, so that `tiller get` doesn't pay for informers and work queues.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tillerman.client.batch import BatchOp
    from tillerman.client.channel import ClientConfig, open_channel
    from tillerman.client.client import Client
    from tillerman.client.clock import Clock, FakeClock, RealClock
    from tillerman.client.dynamic import DynamicClient
    from tillerman.client.events import EventRecorder
    from tillerman.client.informer import Informer, InformerFactory
    from tillerman.client.leader import LeaderElector
    from tillerman.client.pods import PodStreams
    from tillerman.client.resource import ListResult, ResourceClient, WatchEvent
    from tillerman.client.workqueue import ExponentialBackoff, QueueShutDown, WorkQueue, run_workers

_HOME = {
    "BatchOp": "batch",
    "Client": "client",
    "ClientConfig": "channel",
    "Clock": "clock",
    "DynamicClient": "dynamic",
    "EventRecorder": "events",
    "ExponentialBackoff": "workqueue",
    "FakeClock": "clock",
    "Informer": "informer",
    "InformerFactory": "informer",
    "LeaderElector": "leader",
    "ListResult": "resource",
    "PodStreams": "pods",
    "QueueShutDown": "workqueue",
    "RealClock": "clock",
    "ResourceClient": "resource",
    "WatchEvent": "resource",
    "WorkQueue": "workqueue",
    "open_channel": "channel",
    "run_workers": "workqueue",
}

__all__ = [
    "BatchOp",
    "Client",
    "ClientConfig",
    "Clock",
    "DynamicClient",
    "EventRecorder",
    "ExponentialBackoff",
    "FakeClock",
    "Informer",
    "InformerFactory",
    "LeaderElector",
    "ListResult",
    "PodStreams",
    "QueueShutDown",
    "RealClock",
    "ResourceClient",
    "WatchEvent",
    "WorkQueue",
    "open_channel",
    "run_workers",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
