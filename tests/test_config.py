"""Settings: all that is wrong is told at once, and no password ever."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from shop.backends.nats_settings import Access, StreamConfig
from shop.config import ConfigurationError, Settings
from shop.process import LineFormatter
from shop.urls import DatabaseUrl, NatsUrl, redacted, sqlite_path

SECRETS = [
    "postgresql://shop:s3cret@db:5432/shop",
    "postgresql://shop:s3c/ret@db/shop",
    "postgresql://shop:s3c:r@et@db/shop",
    "postgresql://:s3cret@db/shop",
    "postgresql://db/shop?user=me&password=s3cret",
    "postgresql://db/shop?sslpassword=s3cret&sslmode=require",
    "mongodb://shop:s3cret@a:27017,b:27017/shop?replicaSet=rs0",
    "nats://s3cret@127.0.0.1:4222",
    "nats+jetstream://s3cret@127.0.0.1:4222",
    "nats+jetstream://shop:s3cret@127.0.0.1:4222",
    "nats://shop:s3c%40ret@a:4222,b:4222?prefix=eu",
    "nats://127.0.0.1:4222?nkey_seed=s3cret",
    "postgresql://db/shop?PASSWORD=s3cret",
    "postgresql://db/shop?oauth_client_secret=s3cret",
    "postgresql://db/shop?scram_client_key=s3cret&scram_server_key=s3cret",
    "mongodb://db/shop?tls=true&tlsCertificateKeyFilePassword=s3cret",
    "mongodb://db/shop?authMechanismProperties=A:b,AWS_SESSION_TOKEN:s3cret",
    "mongodb://db/shop?authMechanismProperties=aws_session_token%3As3cret&tls=true",
    "NATS://s3cret@127.0.0.1:4222",
]


def problems(**environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(environ)
    return caught.value.problems


def test_without_settings_everything_has_its_default() -> None:
    settings = Settings.from_env({"HOME": "/root", "SHOPPING": "not ours"})
    assert settings == Settings(
        event_store="sqlite:///shop.db",
        model_store="sqlite:///shop.db",
        event_bus="memory://",
        payment_deadline=1800,
        role="all",
        cores="one",
        application="shop.bootstrap:shop_application",
    )


def test_settings_come_from_the_environment() -> None:
    settings = Settings.from_env(
        {
            "SHOP_EVENT_STORE": "memory://",
            "SHOP_MODEL_STORE": "sqlite:////var/lib/shop/models.db",
            "SHOP_EVENT_BUS": "memory://",
            "SHOP_PAYMENT_DEADLINE": "0.5",
            "SHOP_ROLE": "all",
            "SHOP_CORES": "all",
            "SHOP_APPLICATION": "demo.notes:APPLICATION",
        }
    )
    assert settings.event_store == "memory://"
    assert settings.model_store == "sqlite:////var/lib/shop/models.db"
    assert settings.payment_deadline == 0.5
    assert settings.cores == "all"
    assert settings.application == "demo.notes:APPLICATION"


def test_read_models_are_beside_the_events_by_default() -> None:
    assert Settings.from_env({"SHOP_EVENT_STORE": "memory://"}).model_store == "memory://"


def test_all_that_is_wrong_is_told_at_once() -> None:
    found = problems(
        SHOP_EVENT_STORE="mysql://db/shop",
        SHOP_MODEL_STORE="sqlite:///",
        SHOP_EVENT_BUS="carrier-pigeon",
        SHOP_PAYMENT_DEADLINE="soon",
        SHOP_ROLE="king",
        SHOP_COLOUR="green",
        SHOP_CORES="3",
        SHOP_APPLICATION="notes.py",
    )
    assert [problem.split(":")[0] for problem in found] == [
        "SHOP_APPLICATION",
        "SHOP_COLOUR",
        "SHOP_CORES",
        "SHOP_EVENT_BUS",
        "SHOP_EVENT_STORE",
        "SHOP_MODEL_STORE",
        "SHOP_PAYMENT_DEADLINE",
        "SHOP_ROLE",
    ]


def test_what_does_not_go_with_the_role_is_told_beside_what_is_wrong_by_itself() -> None:
    found = problems(
        SHOP_ROLE="web", SHOP_EVENT_STORE="memory://", SHOP_MODEL_STORE="x", SHOP_EVENT_BUS="y"
    )
    assert [(line.split(":")[0], "SHOP_ROLE=web" in line) for line in found] == [
        ("SHOP_EVENT_BUS", False),
        ("SHOP_MODEL_STORE", False),
        ("SHOP_EVENT_STORE", True),
    ]


def test_the_error_says_every_problem() -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)SHOP_PAYMENT_DEADLINE.*SHOP_ROLE"):
        Settings.from_env({"SHOP_ROLE": "king", "SHOP_PAYMENT_DEADLINE": "-1"})


def test_an_unknown_setting_is_refused_and_the_known_ones_are_named() -> None:
    (problem,) = problems(SHOP_EVENT_STOR="memory://")
    assert "SHOP_EVENT_STOR: there is no such setting" in problem
    assert "SHOP_EVENT_STORE" in problem


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e400", "", "half an hour"])
def test_a_deadline_is_a_positive_number_of_seconds(seconds: str) -> None:
    assert len(problems(SHOP_PAYMENT_DEADLINE=seconds)) == 1


def test_a_deadline_with_a_unit_is_told_that_it_is_seconds() -> None:
    (problem,) = problems(SHOP_PAYMENT_DEADLINE="30m")
    assert problem == "SHOP_PAYMENT_DEADLINE: it is no number of seconds, such as 1800"


@pytest.mark.parametrize(
    "url", ["sqlite:///", "sqlite://", "sqlite://host/x.db", "x.db", "", "//["]
)
def test_a_store_is_a_url_with_all_its_parts(url: str) -> None:
    assert len(problems(SHOP_EVENT_STORE=url)) == 1


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite:rel.db", "known here: memory://, sqlite:///PATH"),
        ("sqlite:/x.db", "known here: memory://, sqlite:///PATH"),
        ("SQLITE:///q.db", "known here: memory://, sqlite:///PATH"),
        (" sqlite:///q.db", "white space"),
        ("sqlite:///q.db\n", "white space"),
        ("sqlite:///q.db?mode=ro", "no ?"),
        ("sqlite:///q.db#top", "no #"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite://:memory:", "memory://"),
        ("sqlite:///", "must be sqlite:///PATH"),
        ("sqlite:////", "must be sqlite:///PATH"),
        ("sqlite://q.db", "must be sqlite:///PATH"),
        ("sqlite:///data/", "is a directory"),
        ("memory://x", "nothing after it"),
        ("memory:", "known here: memory://, sqlite:///PATH"),
        ("postgres://db/shop", "known here: memory://, sqlite:///PATH, postgresql://"),
        ("postgresql://db", "names no database: postgresql://USER@HOST/DATABASE"),
        ("mongodb://db:27017/", "names no database: mongodb://HOST/DATABASE"),
        ("mongodb://db/shop.events", "has other characters than"),
        ("postgresql://me:100%@db/shop", "write %25 for the character %"),
        ("mongodb://me:100%zz@db/shop", "write %25 for the character %"),
        ("postgresql://me:a%00b@db/shop", "write %25 for the character %"),
        ("postgresql://db/shop?sslmode=on", 'invalid sslmode value: "on"'),
        ("postgresql://me:hunter2@[::1/shop", "psycopg cannot read it"),
        ("postgresql://me:%ffhunter2@db/shop", "psycopg cannot read it"),
        ("postgresql://db:99999/shop", "port must be a number from 1 to 65535"),
        ("postgresql://a:5432,me:hunter2/shop", "port must be a number from 1 to 65535"),
        ("mongodb://db/shop?tls=hunter2", "The value of tls must be 'true' or 'false'"),
        ("mongodb://db:99999/shop", "Port must be an integer between 0 and 65535"),
        ("mongodb://db/shop?w=0", "no other w than majority"),
        ("mongodb://db/shop?journal=false", "no other journal than true"),
        ("postgresql://db/shop?schema=A%20B", "parameter schema must be"),
        ("mongodb://db/shop?prefix=9", "parameter prefix must be"),
        ("mongodb://db/shop?pool_size=1", "parameter pool_size must be a number from 2"),
        ("mongodb://db/shop?pool_size=ten", "parameter pool_size must be a number from 2"),
        ("postgresql://db/shop?timeout=soon", "parameter timeout must be seconds"),
        ("postgresql://db/shop?timeout=0", "parameter timeout must be seconds"),
        ("postgresql://db/shop?timeout=1&timeout=2", "parameter timeout twice"),
    ],
)
def test_a_url_that_is_nearly_right_is_refused_with_what_is_wrong(url: str, complaint: str) -> None:
    (problem,) = problems(SHOP_EVENT_STORE=url)
    assert complaint in problem
    assert "ter2" not in problem


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql://db/shop?sslmod=ter2", " sslmod: is it meant to be sslmode?"),
        ("postgresql://db/shop?SSLMode=ter2", " SSLMode: is it meant to be sslmode?"),
        ("postgresql://db/shop?pool_sise=ter2", " pool_sise: is it meant to be pool_size?"),
        (
            "postgresql://db/shop?timeout=9&xyz=ter2",
            " xyz; known: schema, prefix, pool_size, timeout, and those of psycopg",
        ),
        ("postgresql://db/shop?xyz=1&password=ter2", " xyz; known: schema"),
        ("mongodb://db/shop?pool_sise=ter2", " pool_sise: is it meant to be pool_size?"),
        ("mongodb://db/shop?replikaSet=ter2", " replikaSet: is it meant to be replicaset?"),
        (
            "mongodb://db/shop?TLS=true&xyz=ter2",
            " xyz; known: prefix, pool_size, timeout, and those of pymongo",
        ),
        ("nats://a?nkey_seed=ter2", " nkey_seed: is it meant to be nkey_seed_file?"),
        ("nats://a?stream=ter2", " stream; known: nkey_seed_file, tls, tls_ca, "),
    ],
)
def test_an_unknown_parameter_is_named_without_its_value(url: str, complaint: str) -> None:
    variable = "SHOP_EVENT_BUS" if url.startswith("nats:") else "SHOP_EVENT_STORE"
    (problem,) = problems(**{variable: url})
    assert f"it has an unknown parameter{complaint}" in problem
    assert "ter2" not in problem


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:p/shop?hunter2=4@db/shop",
        "postgresql://db/shop?hun-ter2=4",
        "postgresql://db/shop?user=me&password=hun&ter2=4",
        "postgresql://db/shop?sslpassword=hun&ter2",
        "mongodb://me:p/shop?hunter2&tls=4@db/shop",
        "mongodb://db/shop?authMechanismProperties=AWS_SESSION_TOKEN:hun&ter2=",
        "nats://a?password=hun&ter2=4",
        "nats://a?hunter2&timeout=4&nkey_seed_file=@b",
    ],
)
def test_what_might_be_a_piece_of_a_password_is_not_taken_for_the_name_of_a_parameter(
    url: str,
) -> None:
    variable = "SHOP_EVENT_BUS" if url.startswith("nats:") else "SHOP_EVENT_STORE"
    (problem,) = problems(**{variable: url})
    assert "it has an unknown parameter" in problem
    assert "ter2" not in problem


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db/shop",
        "postgresql://me:p%40ss@a:5432,b/shop?sslmode=verify-full&target_session_attrs=read-write",
        "postgresql://db/shop?gssencmode=require",
        "postgresql://,/shop?hostaddr=127.0.0.1,127.0.0.2&port=5432,5433&ssl=true",
        "mongodb://me:p%40ss@a:27017,b/shop?replicaSet=rs0&w=majority&journal=true&tls=true",
    ],
)
def test_what_is_the_drivers_may_be_in_a_url(url: str) -> None:
    assert Settings.from_env({"SHOP_EVENT_STORE": url}).event_store == url


@pytest.mark.parametrize(
    "url",
    [
        "root:hunter2@db/shop",
        "postgresql:/root:hunter2@db/shop",
        "postgresql://ro/ot:hunter2@db/shop",
        "postgresql://root:hun ter2@db/shop",
        "mongodb://root:hunt%ter2@db",
        " sqlite:///hunter2",
        "memory://hunter2",
    ],
)
def test_what_is_of_no_known_kind_is_not_quoted_since_anything_in_it_might_be_secret(
    url: str,
) -> None:
    (problem,) = problems(SHOP_EVENT_STORE=url)
    assert problem.startswith("SHOP_EVENT_STORE: ")
    assert "ter2" not in problem


def test_a_file_that_was_meant_for_another_setting_is_not_quoted(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2")
    for variable in ("SHOP_PAYMENT_DEADLINE_FILE", "SHOP_ROLE_FILE", "SHOP_EVENT_BUS_FILE"):
        (problem,) = problems(**{variable: str(secret)})
        assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///shop.db", "shop.db"),
        ("sqlite:///data/shop.db", "data/shop.db"),
        ("sqlite:////var/lib/shop.db", "/var/lib/shop.db"),
        ("sqlite:///100%25 mine.db", "100%25 mine.db"),
    ],
)
def test_the_path_of_a_sqlite_url_is_taken_literally(url: str, path: str) -> None:
    assert Settings.from_env({"SHOP_EVENT_STORE": url}).event_store == url
    assert sqlite_path(url) == Path(path)


def test_a_database_url_is_split_into_what_is_ours_and_what_is_the_drivers() -> None:
    url = (
        "postgresql://me:a%2Fb@one:5432,two/db?sslmode=require&schema=sales&prefix=eu_"
        "&pool_size=4&timeout=2.5&application_name=x"
    )
    assert Settings.from_env({"SHOP_EVENT_STORE": url}).event_store == url
    assert DatabaseUrl.of(url) == DatabaseUrl(
        driver="postgresql://me:a%2Fb@one:5432,two/db?sslmode=require&application_name=x",
        database="db",
        schema="sales",
        prefix="eu_",
        pool_size=4,
        timeout=2.5,
    )


def test_a_database_url_without_parameters_is_the_drivers_and_ours_have_their_defaults() -> None:
    url = "mongodb://a:27017,b:27017/shop?replicaSet=rs0"
    assert DatabaseUrl.of(url) == DatabaseUrl(url, "shop")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("nats:127.0.0.1", "known here: memory://, nats://HOST:4222, nats+jetstream://HOST:4222"),
        ("nats://", "must name servers, and nothing else: nats://HOST:4222"),
        ("nats+jetstream://", "must name servers, and nothing else: nats+jetstream://HOST:4222"),
        ("nats://a/shop", "must name servers, and nothing else"),
        ("nats://a:port", "must name servers, and nothing else"),
        ("nats://a,,b", "must name servers, and nothing else"),
        ("nats://a:4222,b:99999", "port must be a number from 1 to 65535"),
        ("nats://me:hunter2@a,me:hunter2@b", "once, before the first server"),
        ("nats://me:hun/ter2@a", "as in %20, %2F and %40"),
        ("nats://me:@a", "a user and a password, or a token"),
        ("nats://@a", "a user and a password, or a token"),
        ("nats://hunter2@a?nkey_seed_file=x", "an NKey and something before the @"),
        ("nats://a?prefix=shop.*", "parameter prefix must be words of letters"),
        ("nats://a?prefix=", "parameter prefix must be words of letters"),
        ("nats://a?timeout=0", "parameter timeout must be seconds"),
        ("nats://a?tls=yes", "parameter tls must be on or off"),
        ("nats://a?tls_ca=", "parameter tls_ca must be the path of a file"),
        ("nats://a?tls_key=k.pem", "parameter tls_key needs tls_cert"),
        ("nats+jetstream://a?stream=a.b", "parameter stream must be letters, digits"),
        ("nats+jetstream://a?storage=tape", "parameter storage must be file or memory"),
        ("nats+jetstream://a?replicas=0", "parameter replicas must be a number from 1 to 5"),
        ("nats+jetstream://a?max_bytes=1GB", "parameter max_bytes must be a number from 1"),
        ("nats+jetstream://a?max_age=7d", "parameter max_age must be seconds"),
    ],
)
def test_a_bus_url_that_is_nearly_right_is_refused_with_what_is_wrong(
    url: str, complaint: str
) -> None:
    (problem,) = problems(SHOP_EVENT_BUS=url)
    assert complaint in problem
    assert "ter2" not in problem


def test_a_nats_url_names_servers_of_one_cluster_and_has_defaults_for_the_rest() -> None:
    assert NatsUrl.of("nats://one,[::1]:4333") == NatsUrl(
        Access(servers=["one:4222", "[::1]:4333"])
    )


@pytest.mark.parametrize(
    ("before", "user", "password", "token"),
    [("", None, None, None), ("me:p%40ss@", "me", "p@ss", None), ("t%2Fk@", None, None, "t/k")],
)
def test_a_nats_url_may_have_a_user_with_a_password_or_a_token(
    before: str, user: str | None, password: str | None, token: str | None
) -> None:
    url = NatsUrl.of(f"nats://{before}a:4222,b:4222")
    assert url.access == Access(
        servers=["a:4222", "b:4222"], user=user, password=password, token=token
    )


def test_a_nats_url_has_parameters_for_access_and_for_the_stream() -> None:
    url = (
        "nats+jetstream://a?nkey_seed_file=/run/nk&tls_ca=ca.pem&tls_cert=c.pem&tls_key=k.pem"
        "&prefix=eu.shop&timeout=2.5&storage=memory&replicas=3&max_age=60&max_bytes=1000000"
    )
    assert Settings.from_env({"SHOP_EVENT_BUS": url}).event_bus == url
    assert NatsUrl.of(url) == NatsUrl(
        Access(
            servers=["a:4222"],
            nkey_seed_file=Path("/run/nk"),
            tls=True,
            tls_ca=Path("ca.pem"),
            tls_cert=Path("c.pem"),
            tls_key=Path("k.pem"),
        ),
        StreamConfig(
            name="eu_shop_events",
            storage="memory",
            replicas=3,
            max_age=60,
            max_bytes=1_000_000,
        ),
        prefix="eu.shop",
        timeout=2.5,
    )


def test_a_value_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "store"
    file.write_text("sqlite:///other.db\n")
    settings = Settings.from_env({"SHOP_EVENT_STORE_FILE": str(file)})
    assert settings.event_store == "sqlite:///other.db"


def test_a_bad_value_in_a_file_is_told_with_the_name_of_its_variable(tmp_path: Path) -> None:
    file = tmp_path / "role"
    file.write_text("king")
    (problem,) = problems(SHOP_ROLE_FILE=str(file))
    assert problem.startswith("SHOP_ROLE_FILE: ")


def test_a_file_that_is_missing_or_not_text_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    found = problems(
        SHOP_EVENT_STORE_FILE=str(tmp_path / "missing"), SHOP_ROLE_FILE=str(tmp_path / "binary")
    )
    assert found == [
        f"SHOP_EVENT_STORE_FILE: cannot read {tmp_path}/missing: No such file or directory",
        f"SHOP_ROLE_FILE: cannot read {tmp_path}/binary: it is not UTF-8",
    ]


def test_a_value_and_a_file_for_the_same_setting_are_refused(tmp_path: Path) -> None:
    (problem,) = problems(SHOP_ROLE="all", SHOP_ROLE_FILE=str(tmp_path / "role"))
    assert "set one of the two" in problem


@pytest.mark.parametrize("url", SECRETS)
def test_redacted_text_shows_the_url_without_its_password(url: str) -> None:
    shown = redacted(f"cannot reach '{url}' just now")
    assert "s3c" not in shown
    assert "***" in shown
    assert shown.startswith(f"cannot reach '{url.split('://', maxsplit=1)[0]}://")
    assert shown.endswith(" just now")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////var/lib/shop/shop.db",
        "memory://",
        "nats://127.0.0.1:4222",
        "mongodb://a:27017,b:27017/shop",
        "postgresql://shop@db:5432/shop?sslmode=require",
        "http://[::1]:8080/products",
    ],
)
def test_redacted_text_without_a_password_is_the_same(url: str) -> None:
    assert redacted(f"at {url} all is well") == f"at {url} all is well"


@pytest.mark.parametrize("url", SECRETS)
def test_the_settings_as_lines_show_no_password(url: str) -> None:
    lines = "\n".join(Settings(event_store=url, model_store=url, event_bus=url).lines())
    assert "s3c" not in lines
    assert lines.count("***") >= 3


@pytest.mark.parametrize(
    "url", ["mysql://me:s3cret@db/shop", "my sql://me:s3cret@db", "mysql://me:s3cret\u2100@db/shop"]
)
def test_an_error_about_a_url_shows_no_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({"SHOP_EVENT_STORE": url, "SHOP_EVENT_BUS": url})
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(caught.value.__context__)


@pytest.mark.parametrize("url", SECRETS)
def test_the_log_shows_no_password_not_even_in_a_traceback(url: str) -> None:
    error = ConnectionError(f"no route to {url}")
    record = logging.makeLogRecord(
        {"msg": "cannot use %s", "args": (url,), "exc_info": (type(error), error, None)}
    )
    line, *traceback = LineFormatter().format(record).splitlines()
    assert "s3c" not in line + "".join(traceback)
    assert "***" in line
    assert "***" in "".join(traceback)


def test_a_message_stays_on_its_line_of_the_log() -> None:
    record = logging.makeLogRecord({"msg": "GET /a\r\n2026-01-01 forged", "levelname": "INFO"})
    assert LineFormatter().format(record).endswith(r"GET /a\r\n2026-01-01 forged")


@pytest.mark.parametrize("scheme", ["postgresql", "mongodb"])
def test_an_at_sign_in_a_password_is_to_be_written_as_an_escape(scheme: str) -> None:
    (problem,) = problems(SHOP_EVENT_STORE=f"{scheme}://me:hun@ter2@db/shop")
    assert "as in %20, %2F and %40" in problem
    assert "ter2" not in problem


def test_settings_are_shown_without_their_passwords() -> None:
    settings = Settings.from_env({"SHOP_EVENT_STORE": "postgresql://me:hunter2@db/shop"})
    assert "event_store" in repr(settings).lower()
    assert "hunter2" not in repr(settings) + str(settings) + f"{[settings]}"
