"""Everything in this process's memory: for tests, demonstrations, and caches that may be lost."""

from shop.backends.memory.bus import MemoryEventBus
from shop.backends.memory.events import MemoryEventStore
from shop.backends.memory.models import MemoryModelStore
from shop.backends.memory.snapshots import MemorySnapshotStore

__all__ = ["MemoryEventBus", "MemoryEventStore", "MemoryModelStore", "MemorySnapshotStore"]
