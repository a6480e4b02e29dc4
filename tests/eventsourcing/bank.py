"""A made-up bank, for tests of what is built from events: aggregates, commands, read models."""

from __future__ import annotations

from uuid import UUID, uuid4

from shop.eventsourcing import (
    Aggregate,
    AggregateProjection,
    AggregateRef,
    CommandPayload,
    CommandRejected,
    Event,
    EventData,
    Module,
    Projection,
    ReadModel,
    Registry,
    UnitOfWork,
    aggregate,
    applies,
    command,
    event,
    handles,
)
from shop.eventsourcing.models.session import ModelSession


@event("bank.account.opened")
class Opened(EventData, frozen=True):
    owner: str


@event("bank.account.deposited")
class Deposited(EventData, frozen=True):
    amount: int


@event("bank.account.withdrawn")
class Withdrawn(EventData, frozen=True):
    amount: int


@event("bank.limit.set")
class LimitSet(EventData, frozen=True):
    amount: int


@event("bank.weather.changed")
class WeatherChanged(EventData, frozen=True):
    """Concerns no aggregate and no projection of the bank."""

    sunny: bool


@aggregate("bank.account")
class Account(Aggregate):
    owner: str = ""
    balance: int = 0

    def open(self, owner: str) -> None:
        if self.exists:
            raise CommandRejected("account-exists", "it was opened before")
        self.record(Opened(owner))

    def deposit(self, amount: int) -> None:
        if amount:
            self.record(Deposited(amount))

    def withdraw(self, amount: int) -> None:
        if amount > self.balance:
            raise CommandRejected("funds-insufficient", f"the balance is {self.balance}")
        self.record(Withdrawn(amount))

    @applies(Opened)
    def _opened(self, data: Opened) -> None:
        self.owner = data.owner

    @applies(Deposited)
    def _deposited(self, data: Deposited) -> None:
        self.balance += data.amount

    @applies(Withdrawn)
    def _withdrawn(self, data: Withdrawn) -> None:
        self.balance -= data.amount


LIMIT_ID = UUID(int=1)


@aggregate("bank.limit")
class Limit(Aggregate):
    """How much may be withdrawn at once; the bank has one, under ``LIMIT_ID``."""

    amount: int = 1_000_000

    def set(self, amount: int) -> None:
        self.record(LimitSet(amount))

    @applies(LimitSet)
    def _set(self, data: LimitSet) -> None:
        self.amount = data.amount


@command("bank.account.open", creates=True)
class Open(CommandPayload, frozen=True):
    owner: str


@command("bank.account.deposit")
class Deposit(CommandPayload, frozen=True):
    amount: int


@command("bank.account.withdraw")
class Withdraw(CommandPayload, frozen=True):
    amount: int


@command("bank.account.transfer")
class Transfer(CommandPayload, frozen=True):
    to: UUID
    amount: int


def open_account(payload: Open, id: UUID, work: UnitOfWork) -> None:
    work.find(Account, id).open(payload.owner)


def deposit(payload: Deposit, id: UUID, work: UnitOfWork) -> None:
    work.get(Account, id).deposit(payload.amount)


def withdraw(payload: Withdraw, id: UUID, work: UnitOfWork) -> None:
    account = work.get(Account, id)
    if payload.amount > work.find(Limit, LIMIT_ID).amount:
        raise CommandRejected("limit-exceeded", "so much is not withdrawn at once")
    account.withdraw(payload.amount)


def transfer(payload: Transfer, id: UUID, work: UnitOfWork) -> None:
    account, other = work.get(Account, id), work.get(Account, payload.to)
    account.withdraw(payload.amount)
    other.deposit(payload.amount)


BANK = Module(
    aggregates=(Account, Limit),
    handlers={Open: open_account, Deposit: deposit, Withdraw: withdraw, Transfer: transfer},
)


class Balance(ReadModel, frozen=True):
    owner: str
    balance: int
    bookings: int = 0
    """How many events were counted in: one counted twice or never would show."""

    indexes = ("owner",)


class Balances(Projection):
    """Event by event."""

    name = "balances"
    models = (Balance,)

    @handles(Opened)
    def opened(self, event: Event[Opened], models: ModelSession) -> None:
        models.put(event.aggregate.id, Balance(event.data.owner, 0))

    @handles(Deposited)
    def deposited(self, event: Event[Deposited], models: ModelSession) -> None:
        self._book(event.aggregate, event.data.amount, models)

    @handles(Withdrawn)
    def withdrawn(self, event: Event[Withdrawn], models: ModelSession) -> None:
        self._book(event.aggregate, -event.data.amount, models)

    @staticmethod
    def _book(account: AggregateRef, amount: int, models: ModelSession) -> None:
        known = models.get(Balance, account.id)
        assert known is not None, f"{account} has no balance"
        models.put(account.id, Balance(known.owner, known.balance + amount, known.bookings + 1))


class DerivedBalances(AggregateProjection):
    """From aggregates; comes to the same models as :class:`Balances`."""

    name = "derived_balances"
    models = (Balance,)
    aggregates = (Account,)

    def project(self, id: UUID, account: Account) -> Balance:
        return Balance(account.owner, account.balance, account.version - 1)


def registry() -> Registry[EventData]:
    return Registry((*BANK.events, WeatherChanged))


def account() -> AggregateRef:
    """A new account's reference."""
    return AggregateRef("bank.account", uuid4())


def booked(
    ref: AggregateRef, *deposits: int, owner: str = "Ada", after: int = 0
) -> list[Event[EventData]]:
    """The next events of an account: its opening, unless some came before, and deposits."""
    history: list[EventData] = [Deposited(amount) for amount in deposits]
    if not after:
        history.insert(0, Opened(owner))
    return [
        Event.new(ref, version=version, data=data)
        for version, data in enumerate(history, after + 1)
    ]


def weather(count: int) -> list[Event[EventData]]:
    """Events that concern nobody at the bank."""
    ref = AggregateRef("bank.weather", uuid4())
    return [
        Event.new(ref, version=version, data=WeatherChanged(True))
        for version in range(1, count + 1)
    ]
