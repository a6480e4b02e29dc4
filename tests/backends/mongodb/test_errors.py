"""What is told of the driver's errors that a server cannot be brought to raise at will."""

from __future__ import annotations

import pytest
from pymongo.errors import ServerSelectionTimeoutError

from shop.backends.mongodb.errors import translation

_TOPOLOGY = ", Timeout: 1.0s, Topology Description: <TopologyDescription servers: [<%s>]>"
_STEPPED_DOWN = (
    "Primary stepped down while waiting for replication, full error: {'code': 189, 'codeName':"
    " 'PrimarySteppedDown', 'errmsg': 'Primary stepped down while waiting for replication'}"
)
_INTERRUPTED = (
    "operation was interrupted, full error: {'code': 11602, 'codeName':"
    " 'InterruptedDueToReplStateChange', 'errmsg': 'operation was interrupted'}"
)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ('No replica set members match selector "Primary()"', "has had no primary for 1 s"),
        (_STEPPED_DOWN, "has had no primary for 1 s"),
        (_INTERRUPTED, "has had no primary for 1 s"),
        ("127.0.0.1:9: [Errno 111] Connection refused", "no server took a connection within 1 s"),
    ],
    ids=["no-primary", "stepped-down", "interrupted", "refused"],
)
def test_why_no_server_was_found(reason: str, told: str) -> None:
    error = ServerSelectionTimeoutError(reason + _TOPOLOGY % "ServerDescription")
    assert told in str(translation(error, "the database", 1.0))
