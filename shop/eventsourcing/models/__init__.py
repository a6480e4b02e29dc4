"""Read models: what queries answer with, and the port of the store that keeps them."""
