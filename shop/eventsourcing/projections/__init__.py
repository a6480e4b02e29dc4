"""Projections: the log is followed, and read models are kept up to date and rebuilt."""
