"""The least that Flask can do with a command: parse the JSON and answer with it."""

from typing import Any

from flask import Flask, request

app = Flask(__name__)


@app.post("/echo")
def echo() -> Any:
    """The body again."""
    return request.get_json(), 201
