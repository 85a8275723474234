"""Housekeeping in etcd: compaction on a schedule, space that comes back, alarms that are seen."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from services.apiserver.storage.errors import Compacted, StorageError
from services.apiserver.storage.etcd import EtcdClient
from services.apiserver.storage.store import Store
from tillerman.pb.etcd import rpc_pb2

COMPACT_KEY = "compact_rev_key"
BROKEN_VERSIONS = ("3.5.0", "3.5.1", "3.5.2")
# Defragment a member when less than half of a file of at least this many bytes is in use.
DEFRAGMENT_BYTES = 256 << 20

# Seconds from one attempt to make room to the next.
RECOVERY_SECONDS = 5.0

log = structlog.get_logger("apiserver.maintenance")


async def look_after_forever(store: Store, interval: float, *, defragment_above: int = DEFRAGMENT_BYTES) -> None:
    """Every ``interval`` seconds (0: never) compacts to the revision of ``interval`` seconds ago, as kube-apiserver
    does; makes room at once when a write found none.

    The key compact_rev_key says who compacted last, so that of several apiservers one does it.
    """
    version, revision = 0, 0
    while True:
        try:
            async with asyncio.timeout(interval or None):
                await store.out_of_space.wait()
        except TimeoutError:
            pass
        try:
            if not store.out_of_space.is_set():
                version, revision = await _compact(store, version, revision)
            await look_after(store.client, defragment_above=defragment_above)
        except StorageError as error:
            log.warning("looking after etcd failed; trying again later", error=str(error))
        if store.out_of_space.is_set():
            # Where there is still no room, the next write will tell; not more often than this.
            await asyncio.sleep(RECOVERY_SECONDS)
            store.out_of_space.clear()


async def _compact(store: Store, version: int, revision: int) -> tuple[int, int]:
    """(version of the key, revision now) to hand in next time."""
    compare = rpc_pb2.Compare(
        result=rpc_pb2.Compare.EQUAL, target=rpc_pb2.Compare.VERSION, key=COMPACT_KEY.encode(), version=version
    )
    put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=COMPACT_KEY.encode(), value=str(revision).encode()))
    read = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=COMPACT_KEY.encode()))
    request = rpc_pb2.TxnRequest(compare=[compare], success=[put], failure=[read])
    response = (await store.client.txn(request.SerializeToString())).response
    now = response.header.revision
    if not response.succeeded:
        found = response.responses[0].response_range.kvs
        return (found[0].version if found else 0), now
    if revision:
        try:
            await store.client.compact(revision)
            log.info("compacted etcd", revision=revision)
        except Compacted:
            pass
    return version + 1, now


async def look_after(client: EtcdClient, *, defragment_above: int = DEFRAGMENT_BYTES) -> None:
    """Defragments one member after another where it pays; reports alarms, and makes room and clears one of NOSPACE.

    A member that is being defragmented answers nobody: while another one is missing, that could cost the quorum.
    """
    statuses = [(address, await _status(client, address)) for address in client.addresses]
    if all(status is not None for _, status in statuses):
        for address, status in statuses:
            if status.dbSize > defragment_above and status.dbSizeInUse * 2 < status.dbSize:
                log.info("defragmenting etcd", member=address, bytes=status.dbSize, used=status.dbSizeInUse)
                await client.call_member(address, "defragment", rpc_pb2.DefragmentRequest(), timeout=120.0)
    alarms = (await client.call("alarm", rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET))).response.alarms
    for alarm in alarms:
        if alarm.alarm == rpc_pb2.NOSPACE:
            await _recover_space(client, alarm.memberID)
        else:
            log.error("etcd raised an alarm", alarm=alarm.alarm, member=alarm.memberID)


async def _status(client: EtcdClient, address: str) -> Any:
    """A member's StatusResponse; None when it does not answer."""
    try:
        return await client.call_member(address, "status", rpc_pb2.StatusRequest(), timeout=5.0)
    except StorageError as error:
        log.warning("a member of etcd does not answer; nothing is defragmented", member=address, error=str(error))
        return None


async def _recover_space(client: EtcdClient, member: int) -> None:
    log.error("etcd is out of space: compacting, defragmenting and disarming its alarm", member=member)
    revision = (await client.range(rpc_pb2.RangeRequest(key=b"\0", limit=1))).header.revision
    try:
        await client.compact(revision)
    except Compacted:
        pass
    for address in client.addresses:
        try:
            await client.call_member(address, "defragment", rpc_pb2.DefragmentRequest(), timeout=120.0)
        except StorageError as error:
            log.warning("a member of etcd could not be defragmented", member=address, error=str(error))
    disarm = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE, memberID=member, alarm=rpc_pb2.NOSPACE)
    await client.call("alarm", disarm)


async def warn_of_broken_version(client: EtcdClient) -> None:
    """etcd 3.5.0-3.5.2 may corrupt data when killed under load."""
    status = await client.call_member(client.addresses[0], "status", rpc_pb2.StatusRequest())
    if status.version in BROKEN_VERSIONS:
        log.warning(
            "this etcd can corrupt data when it is killed under load: fine for a try-out, upgrade it for anything else",
            version=status.version,
        )
