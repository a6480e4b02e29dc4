"""The tail of the log answers only what it knows all of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shop.backends.memory import MemoryEventStore
from shop.eventsourcing import Query
from shop.eventsourcing.stores.tail import Tail
from tests.notebook import counted, note, noted, positions, registry


def log(size: int) -> MemoryEventStore:
    store = MemoryEventStore(registry())
    store.append([(noted if number % 3 else counted)(note(), 1) for number in range(size)])
    return store


class TestFinding:
    store = log(30)

    @given(
        st.integers(0, 29),
        st.integers(1, 30),
        st.builds(
            Query,
            names=st.none() | st.sets(st.sampled_from(["notebook.noted", "notebook.counted"])),
            after=st.integers(0, 40),
            to=st.none() | st.integers(0, 40),
            limit=st.none() | st.integers(0, 5),
            reverse=st.booleans(),
        ),
    )
    def test_it_finds_what_the_store_does_or_says_that_it_cannot(
        self, before: int, size: int, query: Query
    ) -> None:
        tail = Tail()
        kept = list(self.store.read(Query(after=before, limit=size)))
        tail.extend(kept)
        found = tail.find(query)
        covered = query.to is not None and query.after >= before and query.to <= kept[-1].position
        assert (found is not None) == covered
        assert found is None or found == list(self.store.read(query))


def test_after_a_gap_it_knows_nothing_of_what_was_before() -> None:
    events = list(log(9).read())
    tail = Tail()
    tail.extend(events[:4])
    tail.extend(events[6:])
    assert tail.find(Query(after=2, to=4)) is None
    assert positions(tail.find(Query(after=6, to=9)) or []) == [7, 8, 9]


def test_it_keeps_the_newest() -> None:
    events = list(log(30).read())
    tail = Tail(capacity=5)
    for event in events:
        tail.extend([event])
    assert tail.find(Query(after=0, to=30)) is None
    assert positions(tail.find(Query(after=25, to=30)) or []) == [26, 27, 28, 29, 30]


def test_it_is_empty_at_first() -> None:
    assert Tail().find(Query(to=0)) is None
