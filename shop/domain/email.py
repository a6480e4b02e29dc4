"""E-mail addresses: each is claimed by one customer.

A claim is a stream of its own, whose id is derived from the address. It is appended in the commit
that registers the customer, so two that race for one address cannot both win.
"""

from __future__ import annotations

from uuid import NAMESPACE_URL, UUID, uuid5

from shop.eventsourcing import (
    Aggregate,
    CommandRejected,
    EventData,
    Module,
    aggregate,
    applies,
    event,
)


@event("shop.email.claimed")
class EmailClaimed(EventData, frozen=True):
    """An e-mail address belongs to a customer."""

    customer_id: UUID


@aggregate("shop.email")
class EmailAddress(Aggregate):
    """Who an e-mail address belongs to."""

    customer_id: UUID | None = None

    def claim(self, customer_id: UUID) -> None:
        """Have the address belong to a customer from now on."""
        if self.exists:
            raise CommandRejected("email-taken", "this e-mail address belongs to another customer")
        self.record(EmailClaimed(customer_id))

    @applies(EmailClaimed)
    def _claimed(self, data: EmailClaimed) -> None:
        self.customer_id = data.customer_id


def email_id(address: str) -> UUID:
    """The id of an address, whatever its case."""
    return uuid5(NAMESPACE_URL, f"mailto:{address.lower()}")


MODULE = Module(aggregates=(EmailAddress,))
