"""The write side: aggregates, their events and their commands."""
