"""The relay: afterwards the stream holds every event once, in order, whatever was killed."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import nats as nats_py
import pytest
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from shop.backends.memory import MemoryEventBus, MemoryEventStore
from shop.backends.nats import Access, NatsConnection, Relay, StreamConfig
from shop.backends.sqlite import Database, SqliteEventStore
from shop.eventsourcing import EventStore, PublishingStore
from tests.conftest import Eventually
from tests.notebook import note, noted, registry, stream
from tests.real.nats import NatsServer

T = TypeVar("T")

RELAYING = """
import sys
from pathlib import Path
from shop.backends.memory import MemoryEventBus
from shop.backends.nats import Access, NatsConnection, Relay, StreamConfig
from shop.backends.sqlite import Database, SqliteEventStore
from tests.notebook import registry

path, address, prefix, name = sys.argv[1:]
store = SqliteEventStore(Database(Path(path)), registry(), owns_database=True)
relay = Relay(
    NatsConnection(Access(servers=[address])),
    store,
    MemoryEventBus(),
    StreamConfig(name=name),
    href="/events/{id}",
    prefix=prefix,
    poll=0.02,
)
relay.start()
print("relaying", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


class Node:
    """A store with its bus and its relay, as each process has them."""

    def __init__(self, address: str, store: EventStore, name: str, **options: Any) -> None:
        self.bus = MemoryEventBus()
        self.store = PublishingStore(store, self.bus)
        self.connection = NatsConnection(Access(servers=[address]))
        self.relay = Relay(
            self.connection,
            self.store,
            self.bus,
            StreamConfig(name=name, **options),
            href="/events/{id}",
            prefix=name,
            poll=0.2,
            timeout=2.0,
        )

    def append(self, count: int) -> None:
        for _ in range(count):
            self.store.append([noted(note(), 1)])

    def close(self) -> None:
        self.relay.close(5)
        self.connection.close()


def as_anybody(address: str, act: Callable[[JetStreamContext], Awaitable[T]]) -> T:
    """Do something with the streams of a server, as a client that knows nothing of the shop."""

    async def connected() -> T:
        client = await nats_py.connect(address, max_reconnect_attempts=3)
        try:
            return await act(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(connected())


def messages(address: str, name: str) -> list[tuple[int, str, dict[str, Any]]]:
    """What the stream holds: position, id and envelope of each message."""

    async def read(js: JetStreamContext) -> list[tuple[int, str, dict[str, Any]]]:
        last = (await js.stream_info(name)).state.last_seq
        found = []
        for sequence in range(1, last + 1):
            try:
                message = await js.get_msg(name, seq=sequence)
            except NotFoundError:
                continue  # it was deleted
            headers = message.headers or {}
            event = (message.data or b"").startswith(b"{")
            position = int(headers.get("Shop-Position", 0)) if event else 0
            data = json.loads(message.data or b"{}") if position else {}
            found.append((position, headers.get("Nats-Msg-Id", ""), data))
        return found

    return as_anybody(address, read)


def relayed(address: str, name: str, store: EventStore) -> bool:
    """Whether the stream holds every event of the store once, in order, and nothing else."""
    try:
        found = messages(address, name)
    except (nats_py.errors.Error, OSError):
        return False
    return [(p, id) for p, id, _ in found] == [(e.position, str(e.id)) for e in store.read()]


def test_every_event_is_in_the_stream_once_in_order_as_json(
    nats: str, eventually: Eventually
) -> None:
    name = f"t{uuid4().hex}"
    with closing(Node(nats, MemoryEventStore(registry()), name)) as node:
        node.append(3)
        node.relay.start()
        node.append(700)
        eventually(lambda: node.relay.position == 703)

        assert relayed(nats, name, node.store)
        assert node.relay.status().problem is None
        first = next(node.store.read())
        _, _, envelope = messages(nats, name)[0]
        assert envelope["name"] == "notebook.noted"
        assert envelope["aggregate_id"] == str(first.aggregate.id)
        assert envelope["position"] == 1


def test_it_ends_with_its_bus(nats: str, eventually: Eventually) -> None:
    with closing(Node(nats, MemoryEventStore(registry()), f"t{uuid4().hex}")) as node:
        node.relay.start()
        node.append(1)
        eventually(lambda: node.relay.position == 1)
        node.bus.close()
        eventually(lambda: "relay" not in {thread.name for thread in threading.enumerate()})


def test_an_event_that_is_too_large_goes_without_its_data(
    nats: str, eventually: Eventually
) -> None:
    name = f"t{uuid4().hex}"
    with closing(Node(nats, MemoryEventStore(registry()), name)) as node:
        node.relay.start()
        large = noted(note(), 1, "x" * 2_000_000)
        node.store.append([large])
        node.append(1)
        eventually(lambda: node.relay.position == 2)

        envelope = messages(nats, name)[0][2]
        assert envelope["data"] is None
        assert envelope["href"] == f"/events/{large.id}"
        assert relayed(nats, name, node.store)


@pytest.mark.parametrize(
    ("position", "id"), [("", ""), ("1", ""), ("", "somebody's"), ("9" * 4400, "somebody's")]
)
def test_what_others_put_into_the_stream_stops_no_relay(
    nats: str, eventually: Eventually, position: str, id: str
) -> None:
    name = f"t{uuid4().hex}"

    async def litter(js: JetStreamContext) -> None:
        headers = {"Shop-Position": position, "Nats-Msg-Id": id and f"{id} {uuid4()}"}
        await js.publish(
            f"{name}.events.notebook.noted",
            b"rubbish",
            headers={name: value for name, value in headers.items() if value},
        )

    with closing(Node(nats, MemoryEventStore(registry()), name)) as node:
        node.relay.start()
        eventually(lambda: node.relay.status().problem is None)
        as_anybody(nats, litter)
        node.append(2)
        eventually(lambda: node.relay.position == 2)
        as_anybody(nats, litter)
        # Together: the rubbish takes the place of the first, which must not let the second in.
        node.store.append([noted(note(), 1), noted(note(), 1)])
        eventually(lambda: node.relay.position == 4)

        assert [position for position, _, _ in messages(nats, name)] == [0, 1, 2, 0, 3, 4]


def test_a_stream_that_only_has_messages_of_others_left_is_not_written_to(
    nats: str, eventually: Eventually
) -> None:
    name = f"t{uuid4().hex}"
    with closing(Node(nats, MemoryEventStore(registry()), name)) as node:
        node.append(3)
        node.relay.start()
        eventually(lambda: node.relay.position == 3)
        node.connection.request(f"{name}.events.notebook.noted", b"rubbish", timeout=5)
        as_anybody(nats, lambda js: js.purge_stream(name, keep=1))
        eventually(lambda: "delete the stream" in str(node.relay.status().problem))
        node.append(1)
        as_anybody(nats, lambda js: js.delete_stream(name))
        eventually(lambda: relayed(nats, name, node.store))


def test_a_stream_that_is_emptied_goes_on_after_what_it_had(
    nats: str, eventually: Eventually
) -> None:
    """Also where its sequences are ahead of the positions, since messages were lost or strange."""
    name, store = f"t{uuid4().hex}", MemoryEventStore(registry())
    with closing(Node(nats, store, name)) as node:
        node.append(4)
        node.relay.start()
        eventually(lambda: node.relay.position == 4)
        as_anybody(nats, lambda js: js.delete_msg(name, 4))
        eventually(lambda: relayed(nats, name, node.store))
        node.connection.request(f"{name}.events.notebook.noted", b"rubbish", timeout=5)
        node.append(1)
        eventually(lambda: [p for p, _, _ in messages(nats, name)] == [1, 2, 3, 4, 0, 5])

    as_anybody(nats, lambda js: js.purge_stream(name))
    with closing(Node(nats, store, name)) as node:
        node.append(3)
        node.relay.start()
        eventually(lambda: [p for p, _, _ in messages(nats, name)] == [6, 7, 8])


@pytest.mark.parametrize("left", [5, 0])
def test_a_store_that_is_behind_its_stream_is_not_relayed(
    nats: str, eventually: Eventually, tmp_path: Path, left: int
) -> None:
    name = f"t{uuid4().hex}"

    @contextmanager
    def node(path: Path) -> Iterator[Node]:
        with (
            SqliteEventStore(Database(path), registry(), owns_database=True) as store,
            closing(Node(nats, store, name)) as node,
        ):
            yield node

    with node(tmp_path / "x.db") as first:
        first.append(3)
    shutil.copy(tmp_path / "x.db", tmp_path / "backup.db")
    with node(tmp_path / "x.db") as second:
        second.append(2)
        second.relay.start()
        eventually(lambda: second.relay.position == 5)
    as_anybody(nats, lambda js: js.purge_stream(name, keep=left))
    with node(tmp_path / "backup.db") as restored:
        restored.relay.start()
        eventually(lambda: "restored or replaced" in str(restored.relay.status().problem))
        as_anybody(nats, lambda js: js.delete_stream(name))
        eventually(lambda: relayed(nats, name, restored.store))


def test_several_relays_do_not_come_between_each_other(
    nats: str, eventually: Eventually, tmp_path: Path
) -> None:
    name = f"t{uuid4().hex}"
    with SqliteEventStore(Database(tmp_path / "x.db"), registry(), owns_database=True) as store:
        nodes = [Node(nats, store, name) for _ in range(3)]
        try:
            for node in nodes:
                node.relay.start()
            for _ in range(30):
                for node in nodes:
                    node.append(5)
            eventually(lambda: relayed(nats, name, store))
        finally:
            for node in nodes:
                node.close()


def test_a_killed_and_emptied_server_is_filled_again(
    server: NatsServer, eventually: Eventually
) -> None:
    name = f"t{uuid4().hex}"
    with closing(Node(server.address, MemoryEventStore(registry()), name)) as node:
        node.relay.start()
        node.append(100)
        eventually(lambda: node.relay.position == 100)

        server.kill()
        node.append(100)
        eventually(lambda: node.relay.status().problem is not None)
        server.start()
        eventually(lambda: relayed(server.address, name, node.store))

        server.kill()
        shutil.rmtree(server.store)
        server.start()
        eventually(lambda: relayed(server.address, name, node.store))


def test_a_killed_relay_is_followed_by_another(
    server: NatsServer, eventually: Eventually, tmp_path: Path
) -> None:
    name, path = f"t{uuid4().hex}", tmp_path / "x.db"
    with SqliteEventStore(Database(path), registry(), owns_database=True) as store:
        for _ in range(3):
            arguments = [sys.executable, "-c", RELAYING, str(path), server.address, name, name]
            with subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                process.stdout.readline()
                for _ in range(20):
                    store.append(stream(note(), 50))
                process.kill()
        with closing(Node(server.address, store, name)) as node:
            node.relay.start()
            eventually(lambda: relayed(server.address, name, store))


def test_the_stream_of_another_store_is_left_alone(nats: str, eventually: Eventually) -> None:
    name = f"t{uuid4().hex}"
    with closing(Node(nats, MemoryEventStore(registry()), name)) as node:
        node.append(5)
        node.relay.start()
        eventually(lambda: node.relay.position == 5)
    with closing(Node(nats, MemoryEventStore(registry()), name)) as other:
        other.append(9)
        other.relay.start()
        eventually(lambda: "another event store" in str(other.relay.status().problem))
    assert len(messages(nats, name)) == 5


@pytest.mark.parametrize("subjects", ["{}.events.>", "{}.theirs"])
def test_the_stream_of_somebody_else_is_left_alone(
    nats: str, eventually: Eventually, subjects: str
) -> None:
    name = f"t{uuid4().hex}"

    async def make(js: JetStreamContext) -> None:
        await js.add_stream(name=name, subjects=[subjects.format(name)])
        await js.publish(subjects.format(name).replace(">", "theirs"), b"theirs")

    as_anybody(nats, make)
    before = as_anybody(nats, lambda js: js.stream_info(name)).config
    with closing(Node(nats, MemoryEventStore(registry()), name, max_age=3600.0)) as node:
        node.append(1)
        node.relay.start()
        eventually(lambda: "another stream" in str(node.relay.status().problem))
    assert as_anybody(nats, lambda js: js.stream_info(name)).config == before


def test_a_stream_that_was_made_for_the_shop_keeps_what_the_shop_does_not_ask_for(
    nats: str, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"t{uuid4().hex}"
    caplog.set_level("INFO")
    as_anybody(
        nats,
        lambda js: js.add_stream(
            name=name, subjects=[f"{name}.events.>"], description="theirs", duplicate_window=60
        ),
    )
    with closing(Node(nats, MemoryEventStore(registry()), name)) as node:
        node.append(1)
        node.relay.start()
        eventually(lambda: relayed(nats, name, node.store))
        node.connection.request(f"{name}.events.notebook.noted", b"rubbish", timeout=5)
        node.append(1)
        eventually(lambda: node.relay.position == 2)
    config = as_anybody(nats, lambda js: js.stream_info(name)).config
    assert (config.description, config.duplicate_window) == ("theirs", 1)
    assert caplog.text.count("changed the stream") == 1


def test_the_stream_is_made_as_asked_and_changed_when_that_changes(
    nats: str, eventually: Eventually
) -> None:
    name = f"t{uuid4().hex}"
    store = MemoryEventStore(registry())

    def configured() -> tuple[Any, Any]:
        config = as_anybody(nats, lambda js: js.stream_info(name)).config
        return config.max_age, config.max_bytes

    with closing(Node(nats, store, name, max_age=3600.0)) as node:
        node.append(1)
        node.relay.start()
        eventually(lambda: node.relay.position == 1)
        assert configured() == (3600.0, -1)
    with closing(Node(nats, store, name, max_bytes=10_000_000)) as node:
        node.relay.start()
        node.append(1)
        eventually(lambda: node.relay.position == 2)
        assert configured() == (0.0, 10_000_000)
