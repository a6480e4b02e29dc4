"""Following the log: threads that move along it, each from a checkpoint of its own."""
