"""The read of workflows, for an application that has any."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from shop.application import Answer, PageQuery, Read
from shop.eventsourcing import WorkflowEntry, WorkflowList, WorkflowStatus
from shop.runtime import Shop
from shop.web.listing import Listing, Page, given


class WorkflowsQuery(PageQuery, frozen=True, kw_only=True):
    """Which workflows."""

    status: Annotated[WorkflowStatus, Meta(description="Only with this status")] | UnsetType = UNSET


def list_workflows(shop: Shop, query: WorkflowsQuery) -> Answer:
    """Workflows, newest first: how far each is, its pending timers, and why it is parked."""
    reader = shop.reader(WorkflowList.name)
    equal = given(status=query.status)
    position, entries, next = Listing(query).models(
        reader, WorkflowEntry, equal=equal, reverse=True
    )
    return Answer(Page(entries, next), position)


READS = (
    Read(
        path="/workflows",
        answer=list_workflows,
        shape=Page[WorkflowEntry],
        query=WorkflowsQuery,
        projection=WorkflowList.name,
    ),
)
