"""NATS: the event bus between processes, over Core or JetStream."""
