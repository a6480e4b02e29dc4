"""Plug-ins for the toolkit's ports, one technology each."""
