"""The etcd API as Kine serves it: only the transactions that an API server sends are understood there."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from failover.etcd import etcd_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from grpclib.client import Stream

Response = TypeVar("Response")
SECONDS = 5.0


class EtcdError(Exception):
    """The server did not answer, or refused; what became of a write is not known. One line."""


class CompactedError(EtcdError):
    """The revision asked for is gone: list anew and watch from there."""

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"compacted up to revision {compact_revision}")
        self.compact_revision = compact_revision


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key as it stands."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class GetResult:
    """`revision` is the newest one of the store when it answered."""

    revision: int
    kv: KeyValue | None


@dataclass(frozen=True, slots=True)
class ListResult:
    """As GetResult, for all keys under a prefix."""

    revision: int
    kvs: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class WriteResult:
    """Whether the comparison held, and the revision: of the write, or of the store where it did not."""

    succeeded: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch."""

    deleted: bool
    key: str
    value: bytes
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that came together; `revision` is how far the watch has seen, also without events."""

    revision: int
    changes: tuple[Change, ...]


class EtcdClient:
    """Speaks to `unix:///path` or `host:port`; a symlink is followed anew with each connection."""

    def __init__(self, target: str) -> None:
        self.target = target
        configuration = Configuration(_keepalive_time=10, _keepalive_timeout=5)
        if target.startswith("unix://"):
            self._channel = Channel(path=target.removeprefix("unix://"), config=configuration)
        else:
            host, _, port = target.rpartition(":")
            self._channel = Channel(host, int(port), config=configuration)

    async def get(self, key: str, *, timeout_s: float = SECONDS) -> GetResult:
        """Read one key. Raises EtcdError."""
        answer = await self._call("KV/Range", pb.RangeRequest(key=key.encode(), limit=1), pb.RangeResponse, timeout_s)
        return GetResult(answer.header.revision, _kv(answer.kvs[0]) if answer.kvs else None)

    async def list(self, prefix: str, *, timeout_s: float = SECONDS) -> ListResult:
        """Read all keys under `prefix`. Raises EtcdError."""
        request = pb.RangeRequest(key=prefix.encode(), range_end=_end(prefix))
        answer = await self._call("KV/Range", request, pb.RangeResponse, timeout_s)
        return ListResult(answer.header.revision, tuple(_kv(one) for one in answer.kvs))

    async def create(self, key: str, value: bytes, *, timeout_s: float = SECONDS) -> WriteResult:
        """Write a key that must not be there. Raises EtcdError: it may be written or not."""
        put = pb.RequestOp(request_put=pb.PutRequest(key=key.encode(), value=value))
        return await self._txn(pb.TxnRequest(compare=[_is_at(key, 0)], success=[put]), timeout_s)

    async def update(self, key: str, value: bytes, mod_revision: int, *, timeout_s: float = SECONDS) -> WriteResult:
        """Write a key that must still be at `mod_revision`. Raises EtcdError: it may be written or not."""
        put = pb.RequestOp(request_put=pb.PutRequest(key=key.encode(), value=value))
        return await self._txn(
            pb.TxnRequest(compare=[_is_at(key, mod_revision)], success=[put], failure=[_read(key)]), timeout_s
        )

    async def delete(self, key: str, mod_revision: int, *, timeout_s: float = SECONDS) -> WriteResult:
        """Delete a key that must still be at `mod_revision`. Raises EtcdError: it may be deleted or not."""
        gone = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key.encode()))
        return await self._txn(
            pb.TxnRequest(compare=[_is_at(key, mod_revision)], success=[gone], failure=[_read(key)]), timeout_s
        )

    async def status(self, *, timeout_s: float = SECONDS) -> str:
        """Return the version that the server claims."""
        return str((await self._call("Maintenance/Status", pb.StatusRequest(), pb.StatusResponse, timeout_s)).version)

    async def watch(self, prefix: str, start_revision: int) -> AsyncIterator[Batch]:
        """Yield batches from `start_revision` on, for ever. Raises CompactedError, or EtcdError when it ends."""
        request = pb.WatchRequest(
            create_request=pb.WatchCreateRequest(
                key=prefix.encode(), range_end=_end(prefix), start_revision=start_revision, progress_notify=True
            )
        )
        with _translated(self.target):
            async with self.watching() as stream:
                await stream.send_message(request)
                while (answer := await stream.recv_message()) is not None:
                    if answer.compact_revision:
                        raise CompactedError(answer.compact_revision)
                    if answer.canceled:
                        raise EtcdError(f"watch cancelled: {answer.cancel_reason}")
                    if not answer.created:
                        yield Batch(answer.header.revision, tuple(_change(one) for one in answer.events))
        raise EtcdError("watch ended")

    def watching(self) -> Stream[pb.WatchRequest, pb.WatchResponse]:
        """Return a stream of watches as it is: `watch` is what to use where no more than events are asked for."""
        return self._channel.request(
            "/etcdserverpb.Watch/Watch", Cardinality.STREAM_STREAM, pb.WatchRequest, pb.WatchResponse
        )

    def close(self) -> None:
        """Close the connection; a call under way ends with an error."""
        self._channel.close()

    async def _txn(self, request: pb.TxnRequest, timeout_s: float) -> WriteResult:
        answer = await self._call("KV/Txn", request, pb.TxnResponse, timeout_s)
        return WriteResult(answer.succeeded, answer.header.revision)

    async def _call(self, method: str, request: Any, response: type[Response], timeout_s: float) -> Response:
        """Ask once. A connection on which no answer comes in time is closed: whatever it still owes would be late."""
        asking = asyncio.ensure_future(self._ask(method, request, response))
        try:
            done, _ = await asyncio.wait({asking}, timeout=timeout_s)
        finally:
            if not asking.done():
                asking.add_done_callback(_read_error)
                asking.cancel()
                self.close()
        if not done:
            raise EtcdError(f"{self.target}: no answer within {timeout_s:g} s")
        return asking.result()

    async def _ask(self, method: str, request: Any, response: type[Response]) -> Response:
        with _translated(self.target):
            async with self._channel.request(
                f"/etcdserverpb.{method}", Cardinality.UNARY_UNARY, type(request), response
            ) as stream:
                await stream.send_message(request, end=True)
                answer: Response | None = await stream.recv_message()
                if answer is None:
                    raise EtcdError("an empty answer")
                return answer


def _read_error(asking: asyncio.Future[Any]) -> None:
    """Nobody waits for this answer any more: its error is of no interest, and must not be reported as forgotten."""
    if not asking.cancelled():
        asking.exception()


@contextlib.contextmanager
def _translated(target: str) -> Any:
    try:
        yield
    except GRPCError as error:
        raise EtcdError(f"{target}: {error.status.name}: {error.message}") from None
    except AttributeError as error:
        # grpclib 0.4.9 deletes its transport when the connection is lost, and trips over that in a call that begins then.
        raise EtcdError(f"{target}: the connection was lost ({error})") from None
    except (OSError, ProtocolError, StreamTerminatedError) as error:
        raise EtcdError(f"{target}: {str(error) or type(error).__name__}") from None


def _end(prefix: str) -> bytes:
    raw = prefix.encode()
    return raw[:-1] + bytes([raw[-1] + 1])


def _is_at(key: str, revision: int) -> pb.Compare:
    return pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.MOD, key=key.encode(), mod_revision=revision)


def _read(key: str) -> pb.RequestOp:
    return pb.RequestOp(request_range=pb.RangeRequest(key=key.encode()))


def _kv(kv: pb.KeyValue) -> KeyValue:
    return KeyValue(kv.key.decode(errors="replace"), kv.value, kv.create_revision, kv.mod_revision)


def _change(event: pb.Event) -> Change:
    kv = event.kv
    deleted = event.type == pb.Event.DELETE
    return Change(deleted, kv.key.decode(errors="replace"), kv.value, kv.create_revision, kv.mod_revision)
