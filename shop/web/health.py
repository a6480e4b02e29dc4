"""How the shop is doing: for people, process supervisors and Prometheus."""

from __future__ import annotations

import msgspec
from flask import Flask, Response

from shop.eventsourcing import Failure, ProjectionState
from shop.runtime import Shop
from shop.web.errors import RETRY_AFTER
from shop.web.lines import json_line


class Liveness(msgspec.Struct, frozen=True):
    """That the process answers."""

    status: str


class ProjectionHealth(msgspec.Struct, frozen=True):
    """How a projection is doing. ``lag`` is how many events of the log it has not seen yet."""

    name: str
    state: ProjectionState
    position: int
    lag: int | None
    failure: Failure | None


class Readiness(msgspec.Struct, frozen=True):
    """Whether the shop can do its work, and what is wrong otherwise.

    ``degraded`` is what is wrong and does not keep it from its work.
    """

    ready: bool
    head: int | None
    projections: list[ProjectionHealth]
    problems: list[str]
    degraded: list[str]


def register_health(app: Flask, shop: Shop) -> None:
    """Serve ``/livez`` and ``/readyz``."""

    def livez() -> Response:
        return _answer(Liveness("ok"), 200)

    def readyz() -> Response:
        health = shop.health()
        readiness = Readiness(
            health.ready,
            health.head,
            [
                ProjectionHealth(
                    status.name,
                    status.state,
                    status.position,
                    None if health.head is None else max(0, health.head - status.position),
                    status.failure,
                )
                for status in health.projections
            ],
            list(health.problems),
            list(health.degraded),
        )
        return _answer(readiness, 200 if health.ready else 503)

    app.add_url_rule("/livez", view_func=livez)
    app.add_url_rule("/readyz", view_func=readyz)


def _answer(value: msgspec.Struct, status: int) -> Response:
    headers = {"Cache-Control": "no-cache", **(RETRY_AFTER if status == 503 else {})}
    return Response(json_line(value), status, headers, content_type="application/json")
