"""Addresses, TLS and tokens as people and the environment write them."""

import pytest

from lictor.consul_integration.address import (
    BadAddress,
    ConsulAddress,
    ConsulSettings,
    TlsOptions,
    TokenFile,
)
from lictor.core.locales import render


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("http://127.0.0.1:8500", "http://127.0.0.1:8500"),
        ("https://consul.lan:8501", "https://consul.lan:8501"),
        ("https://consul.lan", "https://consul.lan:443"),
        ("http://consul.lan", "http://consul.lan:8500"),
        ("consul.lan", "http://consul.lan:8500"),
        ("10.0.0.5:9500", "http://10.0.0.5:9500"),
        (" http://127.0.0.1:8500/ ", "http://127.0.0.1:8500"),
        ("[::1]:8500", "http://[::1]:8500"),
        ("::1", "http://[::1]:8500"),
    ],
)
def test_every_usual_way_to_write_an_address_is_understood(text, base):
    assert ConsulAddress.parse(text).base == base


def test_a_unix_socket_is_an_address():
    address = ConsulAddress.parse("unix:///run/consul.sock")
    assert (address.socket, str(address)) == ("/run/consul.sock", "unix:///run/consul.sock")
    assert address.loopback


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "ftp://x",
        "http://x:0",
        "http://x:99999",
        "http://x:abc",
        "unix://run/x",
        "http://user:secret@x",
        "http://x/prefix",
        "http://x?a=1",
        "http://[::1",
    ],
)
def test_an_address_that_is_none_is_refused_with_a_hint(text):
    with pytest.raises(BadAddress) as caught:
        ConsulAddress.parse(text)
    assert caught.value.hint
    assert caught.value.exit_code == 6


def test_what_was_said_explicitly_beats_the_environment():
    environ = {"CONSUL_HTTP_ADDR": "http://env:1", "CONSUL_HTTP_TOKEN": "env-token"}
    said = ConsulSettings.resolve(environ, address="http://said:2", token="said-token")
    assert (said.address.base, said.token()) == ("http://said:2", "said-token")
    taken = ConsulSettings.resolve(environ)
    assert (taken.address.base, taken.token(), taken.chosen) == ("http://env:1", "env-token", True)


def test_without_any_word_the_usual_address_is_a_guess():
    guessed = ConsulSettings.resolve({})
    assert (guessed.address.base, guessed.token(), guessed.chosen) == (
        "http://127.0.0.1:8500",
        None,
        False,
    )


def test_the_ssl_variables_of_the_consul_program_are_honoured():
    environ = {
        "CONSUL_HTTP_ADDR": "consul.lan:8501",
        "CONSUL_HTTP_SSL": "true",
        "CONSUL_HTTP_SSL_VERIFY": "false",
        "CONSUL_TLS_SERVER_NAME": "server.dc1.consul",
    }
    settings = ConsulSettings.resolve(environ)
    assert settings.address.base == "https://consul.lan:8501"
    assert settings.tls == TlsOptions(server_name="server.dc1.consul", verify=False)


def test_ssl_without_a_port_means_consuls_own_port_for_it():
    settings = ConsulSettings.resolve({"CONSUL_HTTP_ADDR": "c.lan", "CONSUL_HTTP_SSL": "1"})
    assert settings.address.base == "https://c.lan:8501"


def test_a_token_file_is_read_again_when_it_changes_and_survives_its_absence(tmp_path):
    path = tmp_path / "token"
    settings = ConsulSettings.resolve({"CONSUL_HTTP_TOKEN_FILE": str(path)})
    assert settings.token() is None
    path.write_text("one\n")
    assert settings.token() == "one"
    path.write_text("another\n")
    assert settings.token() == "another"
    path.unlink()
    assert settings.token() == "another"


@pytest.mark.parametrize(
    ("content", "trouble"),
    [
        (b" \n", "it is empty"),
        (b"one\ntwo\n", "it holds more than a token"),
        (b"one two", "it holds more than a token"),
        ("токен".encode(), "it holds more than a token"),
        (b"\xff\xfe\x00", "it is no text"),
        (None, "No such file or directory"),
    ],
)
def test_what_is_no_token_leaves_the_last_one_in_use_and_is_told(tmp_path, content, trouble):
    path = tmp_path / "token"
    token = TokenFile(path)
    path.write_text("one\r\n")
    assert (token(), token.trouble) == ("one", None)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert token() == "one"
    said = render(token.trouble.code, token.trouble.params)
    assert said == f"The token file {path} cannot be used: {trouble}."
    path.write_text("another")
    assert (token(), token.trouble) == ("another", None)


def test_no_token_is_in_the_representation_of_settings():
    settings = ConsulSettings.resolve({}, token="very-secret")
    assert settings.token() == "very-secret"
    assert "very-secret" not in repr(settings)


def test_a_missing_ca_file_is_a_bad_address_and_not_a_crash(tmp_path):
    with pytest.raises(BadAddress):
        TlsOptions(ca_file=str(tmp_path / "none.pem")).context()


def test_the_tls_file_that_cannot_be_used_is_named(tmp_path):
    there, missing = tmp_path / "there.pem", tmp_path / "missing.pem"
    there.write_text("no certificate")
    for options, words in (
        (TlsOptions(ca_file=str(missing)), f"{missing} cannot be used: No such file"),
        (TlsOptions(ca_file=str(there)), f"{there} cannot be used: it holds no certificate"),
        (TlsOptions(client_cert=str(missing)), f"{missing} cannot be used: No such file"),
        (
            TlsOptions(client_cert=str(there), client_key=str(missing)),
            f"{missing} cannot be used: No such file",
        ),
    ):
        with pytest.raises(BadAddress) as refused:
            options.context()
        assert words in refused.value.message
