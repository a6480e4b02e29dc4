"""An event-sourced shop, and the toolkit that it is built on."""
