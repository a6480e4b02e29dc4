from __future__ import annotations

from typing import Any, cast
from uuid import uuid4

import pytest
from msgspec import defstruct

from shop.eventsourcing import (
    Aggregate,
    AggregateRef,
    CommandRejected,
    Event,
    EventData,
    EventSourcingError,
    aggregate,
    applies,
)
from shop.eventsourcing.aggregates.aggregate import shape_of
from shop.eventsourcing.testing import aggregate_after
from tests.eventsourcing.bank import Account, Deposited, LimitSet, Opened, Withdrawn


def test_a_new_aggregate_does_not_exist() -> None:
    account = Account(uuid4())

    assert not account.exists
    assert account.version == 0
    assert account.changes == []


def test_its_reference_is_kind_and_id() -> None:
    id = uuid4()

    assert Account(id).ref == AggregateRef("bank.account", id)


def test_recording_applies_the_event_and_keeps_it() -> None:
    account = Account(uuid4())

    account.open("Ada")
    account.deposit(5)

    assert (account.owner, account.balance) == ("Ada", 5)
    assert account.changes == [Opened("Ada"), Deposited(5)]
    assert account.exists


def test_the_version_counts_recorded_events_and_the_stored_version_does_not() -> None:
    account = aggregate_after(Account, Opened("Ada"))

    account.deposit(5)

    assert account.version == 2
    assert account.stored_version == 1


def test_replaying_changes_the_state_and_records_nothing() -> None:
    account = aggregate_after(Account, Opened("Ada"), Deposited(7), Withdrawn(3))

    assert account.balance == 4
    assert account.version == account.stored_version == 3
    assert account.changes == []


def test_a_refused_method_leaves_no_trace() -> None:
    account = aggregate_after(Account, Opened("Ada"), Deposited(7))

    with pytest.raises(CommandRejected) as refusal:
        account.withdraw(8)

    assert refusal.value.code == "funds-insufficient"
    assert account.changes == []
    assert account.balance == 7


@pytest.mark.parametrize("version", [1, 3], ids=["again", "one-left-out"])
def test_events_are_replayed_one_after_the_other(version: int) -> None:
    account = aggregate_after(Account, Opened("Ada"))
    stored = Event.new(account.ref, version=version, data=Deposited(5))

    with pytest.raises(EventSourcingError, match=f"version {version}, .* is at 1"):
        account.replay(stored)

    assert account.balance == 0


def test_an_event_without_an_applier_is_refused_by_name() -> None:
    account = Account(uuid4())

    with pytest.raises(EventSourcingError, match=r"Account has no applier for bank\.limit\.set"):
        account.record(LimitSet(5))

    assert account.version == 0
    assert account.changes == []


def test_one_event_has_one_applier() -> None:
    with pytest.raises(ValueError, match="applies Opened twice"):

        @aggregate("bank.confused")
        class Confused(Aggregate):
            @applies(Opened)
            def _one(self, data: Opened) -> None: ...

            @applies(Opened)
            def _other(self, data: Opened) -> None: ...


def test_one_applier_may_be_of_several_events() -> None:
    @aggregate("bank.counter")
    class Counter(Aggregate):
        count: int = 0

        @applies(Opened)
        @applies(Deposited)
        def _counted(self, data: EventData) -> None:
            self.count += 1

    assert aggregate_after(Counter, Opened("Ada"), Deposited(1)).count == 2


class Nameless(EventData, frozen=True):
    pass


@pytest.mark.parametrize(
    ("event_class", "told"),
    [
        (Nameless, "Nameless has no wire name: decorate it with @event"),
        (Account, "@applies takes classes of EventData, not <class"),
        (Account.open, "@applies takes classes of EventData, not <function"),
    ],
    ids=["no name", "no event", "no argument"],
)
def test_an_applier_is_of_an_event(event_class: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        applies(event_class)


@pytest.mark.parametrize("name", ["", "Bank.Account", "bank account", "bank.", Account])
def test_the_name_of_an_aggregate_is_lower_case_words(name: Any) -> None:
    with pytest.raises(ValueError, match="is no name of an aggregate"):
        aggregate(name)


def test_only_a_subclass_is_an_aggregate() -> None:
    with pytest.raises(TypeError, match=r"str is no Aggregate: class str\(Aggregate\)"):
        aggregate("bank.account")(cast("Any", str))


@pytest.mark.parametrize("name", ["id", "version", "changes", "kind", "shape", "ref", "exists"])
def test_what_every_aggregate_has_is_not_defined_anew(name: str) -> None:
    cls = defstruct("Odd", [(name, str, "")], bases=(Aggregate,))
    with pytest.raises(TypeError, match=f"Odd.{name} is the toolkit's: give it another name"):
        aggregate("bank.odd")(cast("type[Aggregate]", cls))


def test_a_method_of_every_aggregate_is_not_defined_anew() -> None:
    with pytest.raises(TypeError, match=r"Odd\.replay is the toolkit's"):

        @aggregate("bank.odd")
        class Odd(Aggregate):
            def replay(self, event: object) -> None: ...


def test_a_field_without_a_default_is_refused() -> None:
    class Odd(Aggregate, kw_only=True):
        colour: str

    with pytest.raises(TypeError, match=r"Odd\.colour needs a default, which is the state before"):
        aggregate("demo.odd")(Odd)


def test_two_aggregates_share_no_changes() -> None:
    one, other = Account(uuid4()), Account(uuid4())

    one.open("Ada")

    assert other.changes == []


def test_an_encoded_aggregate_is_decoded_to_an_equal_one_of_its_own() -> None:
    account = aggregate_after(Account, Opened("Ada \N{PARTY POPPER}"), Deposited(2**63 - 1))

    decoded = Account.decode(account.encode())
    decoded.withdraw(1)

    assert decoded.id == account.id
    assert decoded.owner == account.owner
    assert account.balance == 2**63 - 1
    assert account.changes == []


def test_the_shape_changes_with_the_fields_and_not_with_the_docstring() -> None:
    def shape(field: type, docstring: str) -> str:
        cls = defstruct("Savings", [("balance", field)], namespace={"__doc__": docstring})
        return shape_of(cls)

    assert shape(int, "As the bank began.") == shape(int, "As it is now.")
    assert shape(int, "As the bank began.") != shape(str, "As the bank began.")


def test_a_field_called_description_counts_as_any_other() -> None:
    one = defstruct("Savings", [("description", int)])
    other = defstruct("Savings", [("description", str)])

    assert shape_of(one) != shape_of(other)


def test_the_state_after_some_events_is_given_for_tests() -> None:
    history: list[EventData] = [Opened("Ada"), Deposited(5)]

    account = aggregate_after(Account, *history)
    account.withdraw(5)

    assert account.changes == [Withdrawn(5)]


def test_an_aggregate_without_a_name_is_told_as_that() -> None:
    class Unnamed(Aggregate):
        pass

    with pytest.raises(TypeError, match="Unnamed has no name: decorate it with @aggregate"):
        aggregate_after(Unnamed)
