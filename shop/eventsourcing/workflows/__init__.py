"""Workflows (process managers): reactions to events, commands and timers, each exactly once."""
