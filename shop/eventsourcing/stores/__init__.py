"""The event store: its port, what its backends share, and what is built on any of them."""
