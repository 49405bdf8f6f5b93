"""The dashboard of a local cluster: for those who have its token, and made when one opens it."""

from __future__ import annotations

import hmac
from typing import Any


def dashboard(scheduler: Any, token: str) -> str:
    """Return the dashboard's address, which programs find, too.

    Its pages are made when somebody opens one: Bokeh's imports would take as long as Dask's own.
    Dask makes a link of a scheduler's host and this port: with the token in it that of a program to
    this cluster works, and those to clusters of its own are their own.
    """

    application = scheduler.http_application

    def make_pages() -> None:
        from distributed.http.utils import get_handlers

        try:
            from distributed.dashboard.scheduler import connect
        except ImportError:
            modules = ["distributed.http.scheduler.missing_bokeh"]
            application.add_handlers(".*", get_handlers(scheduler, modules, prefix=token))
        else:
            connect(application, scheduler.http_server, scheduler, prefix=token)

    application.make_pages = make_pages
    scheduler.http_server.port = port = f"{scheduler.http_server.port}/{token}"
    return f"http://127.0.0.1:{port}/status"


def answer_only_below(token: str) -> None:
    """Let the web server of this process answer only below `token`.

    It has no login, and its root and its map of all pages list their addresses.
    """
    from distributed.http.routing import RoutingApplication
    from tornado.web import ErrorHandler

    find_handler = RoutingApplication.find_handler

    def find(application: Any, request: Any, **more: Any) -> Any:
        first = request.path.strip("/").partition("/")[0]
        if hmac.compare_digest(first.encode(), token.encode()):
            if make_pages := vars(application).pop("make_pages", None):
                make_pages()
            return find_handler(application, request, **more)
        return application.get_handler_delegate(request, ErrorHandler, {"status_code": 404})

    RoutingApplication.find_handler = find
