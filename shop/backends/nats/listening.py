"""Listening to subjects, whichever client the connection has at the moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from nats.aio.client import Client
from nats.aio.subscription import Subscription

from shop.backends.nats.client import Message, StrictClient


class Listening:
    """Messages of some subjects, handed over as they come, until it is closed."""

    def __init__(
        self,
        subjects: Sequence[str],
        group: str,
        deliver: Callable[[Message], None],
        drop: Callable[[Listening], None],
    ) -> None:
        """``drop`` ends it on behalf of :meth:`close`."""
        self._drop = drop
        self._subjects = subjects
        self._group = group
        self._deliver = deliver
        self._attached: tuple[Client, list[Subscription]] | None = None

    def close(self) -> None:
        """End it, and wait about a second at most for the server to know of it; idempotent."""
        self._drop(self)

    async def attach(self, client: StrictClient) -> None:
        """Have this client's server send the messages. On the loop only."""
        group, deliver = self._group, self._deliver
        self._attached = (client, [await client.hear(s, group, deliver) for s in self._subjects])

    async def detach(self, client: Client) -> None:
        """Have this client's server send no more messages. On the loop only."""
        for subscription in self._subscriptions(client):
            await subscription.unsubscribe()

    async def drain(self, client: Client) -> None:
        """As :meth:`detach`, but hand over what is on its way. On the loop only."""
        drains = (subscription.drain() for subscription in self._subscriptions(client))  # type: ignore[no-untyped-call]  # nats-py has no types
        await asyncio.gather(*drains)

    def _subscriptions(self, client: Client) -> Sequence[Subscription]:
        return self._attached[1] if self._attached and self._attached[0] is client else ()
