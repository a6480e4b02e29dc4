"""How the shop is doing: for people, process supervisors and Prometheus."""

from __future__ import annotations

import msgspec
from flask import Flask, Response

from shop.eventsourcing import Failure, FollowerState, TimerStatus
from shop.health import Health, health_of
from shop.runtime import Shop
from shop.web.errors import RETRY_AFTER
from shop.web.json_lines import json_response


class Liveness(msgspec.Struct, frozen=True):
    """That the process answers."""

    status: str


class ProjectionHealth(msgspec.Struct, frozen=True):
    """How a projection is doing. ``lag`` is how many events of the log it has not seen yet."""

    name: str
    state: FollowerState
    position: int
    lag: int | None
    failure: Failure | None


class WorkflowHealth(msgspec.Struct, frozen=True):
    """How a workflow is doing: its reactions to events, and its timers.

    `lag` is how many events of the log it has not seen yet; `parked` is how many of its instances
    stand still since they failed (`GET /workflows?status=parked` shows them).
    """

    name: str
    state: FollowerState
    position: int
    lag: int | None
    failure: Failure | None
    timers: TimerStatus
    parked: int | None


class Readiness(msgspec.Struct, frozen=True):
    """Whether the shop can do its work, and what is wrong otherwise.

    ``degraded`` is what is wrong and does not keep it from its work.
    """

    ready: bool
    head: int | None
    projections: list[ProjectionHealth]
    workflows: list[WorkflowHealth]
    problems: list[str]
    degraded: list[str]


def register_health(app: Flask, shop: Shop) -> None:
    """Serve ``/livez`` and ``/readyz``."""

    def livez() -> Response:
        return _answer(Liveness("ok"), 200)

    def readyz() -> Response:
        health = health_of(shop)
        return _answer(_readiness(health), 200 if health.ready else 503)

    app.add_url_rule("/livez", view_func=livez)
    app.add_url_rule("/readyz", view_func=readyz)


def _readiness(health: Health) -> Readiness:
    return Readiness(
        health.ready,
        health.head,
        [
            ProjectionHealth(
                status.name,
                status.state,
                status.position,
                _lag(health.head, status.position),
                status.failure,
            )
            for status in health.projections
        ],
        [
            WorkflowHealth(
                status.reactions.name,
                status.reactions.state,
                status.reactions.position,
                _lag(health.head, status.reactions.position),
                status.reactions.failure,
                status.timers,
                None if health.parked is None else health.parked[status.reactions.name],
            )
            for status in health.workflows
        ],
        list(health.problems),
        list(health.degraded),
    )


def _lag(head: int | None, position: int) -> int | None:
    return None if head is None else max(0, head - position)


def _answer(value: msgspec.Struct, status: int) -> Response:
    headers = {"Cache-Control": "no-cache", **(RETRY_AFTER if status == 503 else {})}
    return json_response(value, status, headers)
