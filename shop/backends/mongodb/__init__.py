"""MongoDB: events, read models, checkpoints and snapshots in one database."""
