"""Aggregates: loaded from their events, cached, changed, and saved in atomic commits."""
