"""The read side: what queries answer with."""
