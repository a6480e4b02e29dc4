"""Commands: carried out once, in this process or by a worker."""
