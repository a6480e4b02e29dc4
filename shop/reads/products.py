"""Reads of products, from the catalog."""

from __future__ import annotations

from uuid import UUID

from shop.application import Answer, NoQuery, PageQuery, Read
from shop.domain.product import Product
from shop.projections.product_catalog import CatalogProduct, ProductCatalog
from shop.runtime import Shop
from shop.web.listing import Listing, Page


def list_products(shop: Shop, query: PageQuery) -> Answer:
    """The catalog: all products, oldest first."""
    reader = shop.reader(ProductCatalog.name)
    position, products, next = Listing(query).models(reader, CatalogProduct)
    return Answer(Page(products, next), position)


def get_product(shop: Shop, query: NoQuery, id: UUID) -> Answer:
    """One product, with its price."""
    found = shop.reader(ProductCatalog.name).get(CatalogProduct, id)
    return Answer(found.value, found.position)


READS = (
    Read(
        path="/products",
        answer=list_products,
        shape=Page[CatalogProduct],
        query=PageQuery,
        projection=ProductCatalog.name,
    ),
    Read(
        path="/products/<id>",
        answer=get_product,
        shape=CatalogProduct,
        projection=ProductCatalog.name,
        aggregate=Product.kind,
    ),
)
