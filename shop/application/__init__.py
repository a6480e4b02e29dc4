"""What an application is made of, apart from the machinery that runs it: the shop is one."""

from shop.application.application import Application
from shop.application.errors import ApplicationError
from shop.application.loading import application_of
from shop.application.read import Answer, NoQuery, PageQuery, Read

__all__ = [
    "Answer",
    "Application",
    "ApplicationError",
    "NoQuery",
    "PageQuery",
    "Read",
    "application_of",
]
