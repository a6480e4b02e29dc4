"""PostgreSQL: events, read models, checkpoints and snapshots in one schema of a database."""
