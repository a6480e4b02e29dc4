"""Projections as they are defined: what asks for new models, and what could not be run."""

from __future__ import annotations

from types import new_class
from typing import Any, cast

import pytest
from msgspec import defstruct

from shop.eventsourcing import (
    AggregateProjection,
    Event,
    EventData,
    ModelSession,
    Projection,
    ReadModel,
    handles,
)
from tests.eventsourcing.bank import (
    Account,
    Balance,
    Balances,
    Deposited,
    DerivedBalances,
    Opened,
    WeatherChanged,
    Withdrawn,
)


class TestShape:
    """What asks for the models to be built anew."""

    def test_it_stays_with_the_code(self) -> None:
        assert Balances().shape == Balances().shape

    def test_another_version_is_another_shape(self) -> None:
        class Revised(Balances):
            version = 2

        assert Revised().shape != Balances().shape

    def test_another_event_is_another_shape(self) -> None:
        class Wider(Balances):
            @handles(WeatherChanged)
            def weather(self, event: Event[EventData], models: ModelSession) -> None: ...

        assert Wider().shape != Balances().shape

    def test_another_field_or_index_is_another_shape(self) -> None:
        def shape(field: type, *indexes: str) -> str:
            entry: Any = defstruct(
                "Entry",
                [("number", field)],
                bases=(ReadModel,),
                namespace={"indexes": indexes},
                frozen=True,
            )

            class Listing(Projection):
                name = "listing"
                models = (entry,)

                @handles(Opened)
                def opened(self, event: Event[Opened], models: ModelSession) -> None: ...

            return Listing().shape

        assert len({shape(int), shape(str), shape(int, "number")}) == 3

    def test_another_order_of_the_models(self) -> None:
        def shape(field: str | None) -> str:
            fields = [("number", int), ("total", int)]
            entry = defstruct(
                "Entry", fields, bases=(ReadModel,), namespace={"ordered_by": field}, frozen=True
            )
            cls = new_class(
                "Listing", (Balances,), {}, lambda b: b.update(name="listing", models=(entry,))
            )
            return cast("Projection", cls()).shape

        assert len({shape(None), shape("number"), shape("total")}) == 3


class TestMistakes:
    """What could not be run is told where it is defined."""

    @pytest.mark.parametrize("name", ["a-b", "Balances", "2nd", "", "b" * 121, None])
    def test_a_name_that_does_not_name_collections(self, name: object) -> None:
        with pytest.raises(ValueError, match=rf"Misnamed\.name must be up to 120 .* not {name!r}"):
            new_class("Misnamed", (Balances,), {}, lambda body: body.update(name=name))

    @pytest.mark.parametrize("field", ["Number", "größe", "n" * 61])
    def test_an_index_that_cannot_be_named(self, field: str) -> None:
        entry = defstruct(
            "Entry",
            [(field, int)],
            bases=(ReadModel,),
            namespace={"indexes": (field,)},
            frozen=True,
        )

        with pytest.raises(
            ValueError, match=f"indexed field of listing_entry must be up to 60 .*'{field}'"
        ):
            new_class(
                "Listing", (Balances,), {}, lambda b: b.update(name="listing", models=(entry,))
            )

    @pytest.mark.parametrize(
        "models", [(), Balance, [Balance], (Account,)], ids=["none", "class", "list", "others"]
    )
    def test_models_that_are_none(self, models: object) -> None:
        with pytest.raises(ValueError, match=r"Wrong\.models is a tuple of classes of read models"):
            new_class("Wrong", (Balances,), {}, lambda body: body.update(models=models))

    @pytest.mark.parametrize(
        ("named", "told"),
        [
            ({"indexes": ("colour",)}, r"Entry\.indexes names no field of it: 'colour'"),
            ({"indexes": "number"}, r"Entry\.indexes is a tuple of the names of fields, not 'num"),
            ({"ordered_by": "colour"}, r"Entry\.ordered_by names no field of it: 'colour'"),
        ],
        ids=["index", "no tuple", "order"],
    )
    def test_a_field_that_the_model_has_not(self, named: dict[str, Any], told: str) -> None:
        entry = defstruct(
            "Entry", [("number", int)], bases=(ReadModel,), namespace=named, frozen=True
        )

        with pytest.raises(ValueError, match=told):
            new_class(
                "Listing", (Balances,), {}, lambda b: b.update(name="listing", models=(entry,))
            )

    def test_two_handlers_of_one_event(self) -> None:
        with pytest.raises(ValueError, match="Twofold handles Opened twice"):

            class Twofold(Balances):
                @handles(Opened)
                def one(self, event: Event[Opened], models: ModelSession) -> None: ...

                @handles(Deposited, Opened)
                def other(self, event: Event[Any], models: ModelSession) -> None: ...

    @pytest.mark.parametrize("events", [(), (Account,), (Account.open,)])
    def test_what_is_no_event(self, events: Any) -> None:
        with pytest.raises(TypeError, match="@handles takes "):
            handles(*events)

    def test_no_name(self) -> None:
        with pytest.raises(ValueError, match=r"Nameless\.name must be up to 120 .* not None"):

            class Nameless(Projection):
                models = (Balance,)

                @handles(Opened)
                def opened(self, event: Event[Opened], models: ModelSession) -> None: ...

    def test_no_models(self) -> None:
        with pytest.raises(ValueError, match=r"Modelless\.models is a tuple"):

            class Modelless(Projection):
                name = "modelless"

                @handles(Opened)
                def opened(self, event: Event[Opened], models: ModelSession) -> None: ...

    def test_two_classes_of_models_derived_from_aggregates(self) -> None:
        with pytest.raises(ValueError, match=r"Two\.models is one class of read models, not \("):

            class Two(DerivedBalances):
                models = (Balance, ReadModel)  # type: ignore[assignment] # the mistake

    def test_no_handlers(self) -> None:
        with pytest.raises(ValueError, match="Deaf handles no event: mark methods with @handles"):

            class Deaf(Projection):
                name = "deaf"
                models = (Balance,)

    def test_marks_of_one_method_add_up(self) -> None:
        class Stacked(Projection):
            name = "stacked"
            models = (Balance,)

            @handles(Opened)
            @handles(Deposited, Withdrawn)
            def changed(self, event: Event[Any], models: ModelSession) -> None: ...

        assert Stacked().event_names == {c.wire.name for c in (Opened, Deposited, Withdrawn)}

    def test_models_are_ordered_by_an_int(self) -> None:
        class Late(ReadModel, frozen=True):
            ordered_by = "made"

            made: float

        with pytest.raises(ValueError, match=r"Late\.made is no int: models are ordered by one"):

            class Lateness(Projection):
                name = "lateness"
                models = (Late,)

                @handles(Opened)
                def opened(self, event: Event[Any], models: ModelSession) -> None: ...

    @pytest.mark.parametrize("aggregates", [None, (), Account, ("bank.account",)])
    def test_models_are_derived_from_classes_of_aggregates(self, aggregates: object) -> None:
        fields = {"name": "derived", "models": (Balance,), "aggregates": aggregates}
        with pytest.raises(
            ValueError, match=r"Derived\.aggregates is a tuple of classes of aggreg"
        ):
            type("Derived", (AggregateProjection,), fields)

    def test_to_derive_a_model_takes_the_id_and_the_aggregates(self) -> None:
        def project(self: object, id: Any) -> None: ...

        fields = {
            "name": "derived",
            "models": (Balance,),
            "aggregates": (Account,),
            "project": project,
        }
        with pytest.raises(TypeError, match=r"to be called with \(self, id, Account\), and takes"):
            type("Derived", (AggregateProjection,), fields)

    def test_the_class_variables_are_in_the_documentation_of_the_class(self) -> None:
        for cls, names in (
            (Projection, "name models version"),
            (AggregateProjection, "aggregates"),
        ):
            assert all(f"``{name}``" in (cls.__doc__ or "") for name in names.split())
