"""Which versions of aggregates are in the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from uuid import UUID

from pymongo.collection import Collection

from shop.backends.mongodb.documents import Document
from shop.backends.mongodb.schema import BY_AGGREGATE, BY_VERSION
from shop.eventsourcing.events.event import AggregateRef

FIELDS = {f"events.{name}": 1 for name in ("aggregate", "aggregate_id", "version")}
"""What :func:`versions_of` needs."""


def versions_of(commit: Document) -> Iterator[tuple[AggregateRef, int]]:
    """Aggregate and version of each event of a commit, in order."""
    for event in commit["events"]:
        yield AggregateRef(event["aggregate"], UUID(event["aggregate_id"])), event["version"]


def which_are_there(
    commits: Collection[Document], versions: Mapping[AggregateRef, int]
) -> set[tuple[AggregateRef, int]]:
    """Which of these versions of aggregates, and of those after them, there are."""
    wanted = {number for version in versions.values() for number in (version, version + 1)}
    query = {
        "events": {
            "$elemMatch": {
                "aggregate_id": {"$in": [str(ref.id) for ref in versions]},
                "aggregate": {"$in": sorted({ref.name for ref in versions})},
                "version": {"$in": sorted(wanted)},
            }
        }
    }
    found = commits.find(query, FIELDS, hint=BY_VERSION)
    return {place for commit in found for place in versions_of(commit)}


def current_version(commits: Collection[Document], ref: AggregateRef) -> int:
    """The version of an aggregate's last event; 0 where it has none."""
    place = {"aggregate_id": str(ref.id), "aggregate": ref.name}
    last = commits.find_one(
        {"_id": {"$gt": 0}, "events": {"$elemMatch": place}},
        FIELDS,
        sort={"_id": -1},
        hint=BY_AGGREGATE,
    )
    return dict(versions_of(last)).get(ref, 0) if last else 0
