"""Who we are to a NATS server, and that it is the right one."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nkeys
import pytest

from shop.backends.nats import Access, NatsConnection
from tests.conftest import Eventually
from tests.real.nats import NatsServer, publish
from tests.real.process import unavailable


def server_with(tmp_path: Path, configuration: Mapping[str, object]) -> NatsServer:
    file = tmp_path / "nats.conf"
    file.write_text(json.dumps(configuration))
    return NatsServer("--config", str(file))


USER = {"authorization": {"user": "shop", "password": "s3cret@/"}}
TOKEN = {"authorization": {"token": "s3cret"}}


@pytest.mark.parametrize(
    ("configuration", "right", "wrong"),
    [
        (USER, {"user": "shop", "password": "s3cret@/"}, {"user": "shop", "password": "s3"}),
        (TOKEN, {"token": "s3cret"}, {"token": "s3cre"}),
        (TOKEN, {"token": "s3cret"}, {}),
    ],
)
def test_a_server_takes_who_it_knows(
    tmp_path: Path,
    eventually: Eventually,
    configuration: Mapping[str, object],
    right: dict[str, Any],
    wrong: dict[str, Any],
) -> None:
    with server_with(tmp_path, configuration) as server:
        with NatsConnection(Access(servers=[server.address], **right)) as connection:
            assert connection.wait_connected(10)
        with NatsConnection(Access(servers=[server.address], **wrong)) as connection:
            eventually(lambda: "uthorization" in str(connection.problem))
            assert "s3c" not in str(connection.problem)


def test_a_server_takes_an_nkey(tmp_path: Path, eventually: Eventually) -> None:
    seed = tmp_path / "seed"
    keys = nkeys.from_seed(nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER))
    seed.write_bytes(keys.seed)
    users = [{"nkey": keys.public_key.decode()}]
    with server_with(tmp_path, {"authorization": {"users": users}}) as server:
        with NatsConnection(Access(servers=[server.address], nkey_seed_file=seed)) as connection:
            assert connection.wait_connected(10)
            publish(connection, "a", b"b")
        missing = Access(servers=[server.address], nkey_seed_file=tmp_path / "missing")
        with NatsConnection(missing) as connection:
            eventually(lambda: "No such file" in str(connection.problem))


def test_a_right_that_is_missing_is_told_once_on_each_connection(
    tmp_path: Path, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    rights = {"publish": {"deny": "a"}, "subscribe": {"deny": "b"}}
    users = [{"user": "shop", "password": "s3cret", "permissions": rights}]
    caplog.set_level("ERROR")

    def told(*, publish: int, subscription: int) -> bool:
        found = Counter(message.split(" for ")[1] for message in caplog.messages)
        return found == {'publish to "a"': publish, 'subscription to "b"': subscription}

    with server_with(tmp_path, {"authorization": {"users": users}}) as server:
        access = Access(servers=[server.address], user="shop", password="s3cret")
        with NatsConnection(access) as connection:
            assert connection.wait_connected(10)
            connection.listen("b", lambda message: None)
            for _ in range(20):
                publish(connection, "a", b"")
            connection.listen("c", lambda message: None)  # the server has refused all of that now
            eventually(lambda: told(publish=1, subscription=1))
            server.kill()
            eventually(lambda: connection.problem)
            server.start()
            assert connection.wait_connected(10)
            publish(connection, "a", b"")
            eventually(lambda: told(publish=2, subscription=2))


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Makes a certificate for a host, and its key."""
    if shutil.which("openssl") is None:
        unavailable("there is no openssl")

    def make(host: str) -> tuple[Path, Path]:
        certificate, key = tmp_path / f"{host}.pem", tmp_path / f"{host}.key"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-nodes"),
                *("-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-days", "2", "-subj", f"/CN={host}", "-addext", f"subjectAltName=IP:{host}"),
                *("-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        return certificate, key

    return make


def test_a_server_with_tls_is_checked_and_one_without_is_refused(
    tmp_path: Path, eventually: Eventually, certificate: Callable[[str], tuple[Path, Path]]
) -> None:
    right, key = certificate("127.0.0.1")
    wrong, _ = certificate("127.0.0.2")
    tls = {"tls": {"cert_file": str(right), "key_file": str(key)}}
    with server_with(tmp_path, tls) as server:
        servers = [server.address]
        with NatsConnection(Access(servers=servers, tls=True, tls_ca=right)) as connection:
            assert connection.wait_connected(10)
        with NatsConnection(Access(servers=servers, tls=True, tls_ca=wrong)) as connection:
            eventually(lambda: "certificate" in str(connection.problem).lower())
    with (
        NatsServer() as plain,
        NatsConnection(Access(servers=[plain.address], tls=True)) as connection,
    ):
        eventually(lambda: "no TLS" in str(connection.problem))
