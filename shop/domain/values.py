"""The kinds of values that the shop's commands take, and their bounds.

Commands are checked against these before any handler sees them. Events and aggregates use plain
types: what has happened stays readable when a bound changes.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

# `$` alone would match before a last line feed as well.
_END = r"$(?!\n)"
# Control characters, and what Unicode has for ends of lines and paragraphs.
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
# Somewhere a character that is no white space, nowhere a control character.
_LINE = rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*" + _END
_NO_LINE = {"misfit": "This must be one line of text, with at least one visible character"}

_EMAIL = rf"^[^@\s{_CONTROL}]+@[^@\s{_CONTROL}]+" + _END

Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=_LINE,
        description="One line of text",
        extra=_NO_LINE,
    ),
]
Reason = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=500,
        pattern=_LINE,
        description="Why, in one line of text",
        extra=_NO_LINE,
        examples=["counted again"],
    ),
]
Email = Annotated[
    str,
    Meta(
        max_length=254,
        pattern=_EMAIL,
        description="An e-mail address; upper and lower case are the same address",
        extra={"misfit": "This is no e-mail address"},
        examples=["ada@example.org"],
    ),
]

MOST_STOCK = 10**9

Price = Annotated[
    int,
    Meta(ge=1, le=10**10, description="Money in minor units, such as cents", examples=[2999]),
]
Amount = Annotated[
    int,
    Meta(ge=0, le=10**18, description="Money in minor units, such as cents", examples=[2999]),
]
Percent = Annotated[int, Meta(ge=1, le=100)]
Stock = Annotated[int, Meta(ge=0, le=MOST_STOCK, description="Pieces in stock", examples=[50])]
StockChange = Annotated[
    int, Meta(ge=-MOST_STOCK, le=MOST_STOCK, description="Pieces to add, or to take when negative")
]
Quantity = Annotated[int, Meta(ge=1, le=10**6, description="Pieces ordered")]
