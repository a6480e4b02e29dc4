"""Telling others: the ports of the event bus and of requests, and the queue of a subscription."""
