"""The product catalog: what is for sale, at which price, and how much of it is left."""

from __future__ import annotations

from uuid import UUID

import msgspec

from shop.domain.pricing import Discount, DiscountAdded, PricingSet, discounted
from shop.domain.product import ProductCreated, ProductRenamed, StockAdjusted
from shop.eventsourcing import Event, ModelSession, Projection, ReadModel, handles


class CatalogProduct(ReadModel, frozen=True):
    """A product with its price; ``current_price`` has the discounts taken off."""

    id: UUID
    name: str = ""
    price: int = 0
    discounts: tuple[Discount, ...] = ()
    current_price: int = 0
    stock: int = 0


class ProductCatalog(Projection):
    """Follows products and their pricing, which share an id."""

    name = "product_catalog"
    models = (CatalogProduct,)

    @handles(ProductCreated)
    def created(self, event: Event[ProductCreated], models: ModelSession) -> None:
        product = CatalogProduct(event.aggregate.id, event.data.name, stock=event.data.stock)
        models.put(product.id, product)

    @handles(ProductRenamed)
    def renamed(self, event: Event[ProductRenamed], models: ModelSession) -> None:
        product = _product(event.aggregate.id, models)
        models.put(product.id, msgspec.structs.replace(product, name=event.data.name))

    @handles(StockAdjusted)
    def stock_adjusted(self, event: Event[StockAdjusted], models: ModelSession) -> None:
        product = _product(event.aggregate.id, models)
        stock = product.stock + event.data.quantity
        models.put(product.id, msgspec.structs.replace(product, stock=stock))

    @handles(PricingSet)
    def priced(self, event: Event[PricingSet], models: ModelSession) -> None:
        product = _product(event.aggregate.id, models)
        _put_priced(product, event.data.price, product.discounts, models)

    @handles(DiscountAdded)
    def discount_added(self, event: Event[DiscountAdded], models: ModelSession) -> None:
        product = _product(event.aggregate.id, models)
        discount = Discount(event.data.label, event.data.percent)
        _put_priced(product, product.price, (*product.discounts, discount), models)


def _product(id: UUID, models: ModelSession) -> CatalogProduct:
    return models.get(CatalogProduct, id) or CatalogProduct(id)


def _put_priced(
    product: CatalogProduct, price: int, discounts: tuple[Discount, ...], models: ModelSession
) -> None:
    priced = msgspec.structs.replace(
        product, price=price, discounts=discounts, current_price=discounted(price, discounts)
    )
    models.put(product.id, priced)
