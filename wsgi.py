"""The shop for WSGI servers: ``waitress-serve --listen=127.0.0.1:8080 wsgi:app``."""

import os

from shop.serving import start_app

app = start_app(os.environ)
