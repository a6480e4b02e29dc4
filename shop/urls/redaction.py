"""Passwords in URLs, blotted out before anybody reads them."""

from __future__ import annotations

import re

SECRETS = "password|token|seed|secret|client_key|server_key"
"""What the names of parameters that hold secrets have in them."""


def redacted(text: str) -> str:
    """The text, with the passwords of all URLs in it blotted out.

    Rather too much than too little: a password that should have been percent-encoded may hold any
    character but a blank. A token for NATS stands alone in the place of the user.
    """
    text = re.sub(r"(://[^:/?#@\s]*:)\S*@", r"\1***@", text)
    text = re.sub(r"(?i)(\bnats\S*://)[^:/?#@\s]+@", r"\1***@", text)
    text = re.sub(r"(?i)(session_token(?::|%3A))[^&,\s'\"]*", r"\1***", text)
    return re.sub(rf"(?i)([?&]\w*(?:{SECRETS})=)[^&\s'\"]*", r"\1***", text)
