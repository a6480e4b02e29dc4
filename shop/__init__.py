"""An event-sourced shop, and the toolkit that it is built on."""

__version__ = "0.1.0"
