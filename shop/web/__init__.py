"""An application over HTTP: its commands, its reads, and all that every one has."""

from __future__ import annotations

from flask import Flask, Response

from shop.eventsourcing import WorkflowList
from shop.runtime import Shop
from shop.web import events, workflows
from shop.web.batch import register_batch
from shop.web.commands import register_commands
from shop.web.docs import register_docs
from shop.web.errors import register_errors
from shop.web.guard import check_loopback
from shop.web.health import register_health
from shop.web.metrics import register_metrics
from shop.web.openapi import register_openapi
from shop.web.reading import check_paths, register_reads
from shop.web.waits import Waits

__all__ = ["create_app"]


def create_app(shop: Shop, *, long_waits: int = 2) -> Flask:
    """The WSGI application of a shop, which it neither starts nor closes.

    It serves the commands and reads of the application that runs, and beside them the log, its
    workflows, if it has any, and what monitors the process.

    At most ``long_waits`` requests wait for read models longer than a tenth of a second, and as
    many batches, but at least one, are carried out at a time. A quarter of the server's threads is
    a good number.

    Raises :class:`~shop.application.ApplicationError` where a read of the application is in the way
    of what every application has.
    """
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False
    waits = Waits(long_waits)
    register_errors(app)
    register_metrics(app, shop)
    app.before_request(check_loopback)
    app.after_request(_harden)
    register_commands(app, shop, waits)
    register_batch(app, shop, max_batches=max(1, long_waits))
    register_health(app, shop)
    listed = workflows.READS if WorkflowList.name in shop.progress else ()
    common = (*listed, *events.READS)
    own = shop.application.reads
    register_docs(app, register_openapi(app, shop, [*own, *common]))
    register_reads(app, common, shop, waits)
    check_paths(app, own)
    register_reads(app, own, shop, waits)
    return app


def _harden(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
