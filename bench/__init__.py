"""Benchmarks: what the shop's parts do in a second, beside what the raw driver does.

``python -m bench`` runs all, ``python -m bench NAME…`` some. docs/benchmarks.md explains the rows.
"""
