"""Products: what is sold, and how many pieces of it there are."""

from __future__ import annotations

from uuid import UUID

from shop.domain.pricing import Pricing
from shop.domain.values import MOST_STOCK, Name, Price, Reason, Stock, StockChange
from shop.eventsourcing import (
    Aggregate,
    CommandPayload,
    CommandRejected,
    EventData,
    Module,
    UnitOfWork,
    aggregate,
    applies,
    command,
    event,
)


@event("shop.product.created")
class ProductCreated(EventData, frozen=True):
    """A product is for sale."""

    name: str
    stock: int


@event("shop.product.renamed")
class ProductRenamed(EventData, frozen=True):
    """A product has another name."""

    name: str


@event("shop.product.stock_adjusted")
class StockAdjusted(EventData, frozen=True):
    """Pieces came into the stock or, with a negative quantity, left it."""

    quantity: int
    reason: str


@aggregate("shop.product")
class Product(Aggregate):
    """A product. Its price is kept by its :class:`Pricing`."""

    name: str = ""
    stock: int = 0

    def create(self, name: str, stock: int) -> None:
        """Begin to sell it."""
        if self.exists:
            raise CommandRejected("product-exists", f"product {self.id} was created before")
        self.record(ProductCreated(name, stock))

    def rename(self, name: str) -> None:
        """Give it another name."""
        if name != self.name:
            self.record(ProductRenamed(name))

    def adjust_stock(self, quantity: int, reason: str) -> None:
        """Add pieces to the stock, or take some when ``quantity`` is negative."""
        self._check_stock(-quantity)
        if quantity > 0 and self.stock + quantity > MOST_STOCK:
            raise CommandRejected(
                "stock-excessive", f"of one product there are at most {MOST_STOCK} in stock"
            )
        if quantity:
            self.record(StockAdjusted(quantity, reason))

    def reserve(self, quantity: int, order_id: UUID) -> None:
        """Take pieces out of the stock for an order."""
        self._check_stock(quantity)
        self.record(StockAdjusted(-quantity, f"order {order_id} placed"))

    def release(self, quantity: int, order_id: UUID) -> None:
        """Return the pieces of an order that was called off."""
        self.record(StockAdjusted(quantity, f"order {order_id} cancelled"))

    def _check_stock(self, wanted: int) -> None:
        if wanted > self.stock:
            raise CommandRejected(
                "stock-insufficient",
                f"{wanted} of {self.name!r} ({self.id}) wanted, {self.stock} in stock",
            )

    @applies(ProductCreated)
    def _created(self, data: ProductCreated) -> None:
        self.name = data.name
        self.stock = data.stock

    @applies(ProductRenamed)
    def _renamed(self, data: ProductRenamed) -> None:
        self.name = data.name

    @applies(StockAdjusted)
    def _stock_adjusted(self, data: StockAdjusted) -> None:
        self.stock += data.quantity


@command("shop.product.create", creates=True)
class CreateProduct(CommandPayload, frozen=True):
    """Begin to sell a product, at a price."""

    name: Name
    price: Price
    stock: Stock


@command("shop.product.rename")
class RenameProduct(CommandPayload, frozen=True):
    """Give a product another name."""

    name: Name


@command("shop.product.adjust_stock")
class AdjustStock(CommandPayload, frozen=True):
    """Add pieces of a product to the stock, or take some."""

    quantity: StockChange
    reason: Reason


def _handle_create(payload: CreateProduct, id: UUID, work: UnitOfWork) -> None:
    work.find(Product, id).create(payload.name, payload.stock)
    work.find(Pricing, id).set_price(payload.price)


def _handle_rename(payload: RenameProduct, id: UUID, work: UnitOfWork) -> None:
    work.get(Product, id).rename(payload.name)


def _handle_adjust_stock(payload: AdjustStock, id: UUID, work: UnitOfWork) -> None:
    work.get(Product, id).adjust_stock(payload.quantity, payload.reason)


MODULE = Module(
    aggregates=(Product,),
    handlers={
        CreateProduct: _handle_create,
        RenameProduct: _handle_rename,
        AdjustStock: _handle_adjust_stock,
    },
)
