"""Who may ask: loopback by default, a key for everything else.

The key comes from a file or the environment, never from a flag or a URL, because both of these are
seen by others (process lists, proxies' logs).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from sasrecllm.errors import ConfigError

KEY_VARIABLE = "SASRECLLM_API_KEY"
SHORTEST_KEY = 16
OPEN_PATHS = frozenset({"/healthz"})
MAKE_KEY = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
PORTS = {"http": 80, "https": 443}
log = logging.getLogger("sasrecllm.serving")


def read_key(key_file: Path | None, environment: Mapping[str, str] | None = None) -> str | None:
    """The key from ``key_file``, else from the environment, else None.

    A file that others than its owner can read is used, with a warning.

    Raises:
        ConfigError: the file cannot be read, or the key is short or not plain ASCII.
    """
    if key_file is not None:
        try:
            key, source = key_file.read_text(encoding="utf-8").strip(), str(key_file)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"--key-file {key_file} cannot be read: {error}",
                f"name a text file, or make one: (umask 077; {MAKE_KEY} > {key_file})",
            ) from error
        if readable_by_others(key_file):
            log.warning("--key-file %s can be read by others: chmod 600 %s", key_file, key_file)
    else:
        value = (os.environ if environment is None else environment).get(KEY_VARIABLE)
        if value is None:
            return None
        key, source = value.strip(), KEY_VARIABLE
    if len(key) < SHORTEST_KEY or not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(
            f"the key in {source} has {len(key)} characters or unusual ones;"
            f" needed: at least {SHORTEST_KEY} printable ASCII characters without spaces",
            f"make one: {MAKE_KEY}",
        )
    return key


def readable_by_others(file: Path) -> bool:
    """Whether others than the owner may read or write a file, as far as this system tells."""
    return os.name == "posix" and bool(file.stat().st_mode & 0o077)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to ``host``.

    >>> [is_loopback(h) for h in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "", "example.org")]
    [True, True, True, False, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_bind(host: str, key: str | None) -> None:
    """Refuse to serve a network without a key.

    Raises:
        ConfigError: ``host`` is not this machine alone and there is no key.
    """
    if key is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host} can be reached from other machines, and there is no key",
            f"set {KEY_VARIABLE} or give --key-file, or serve on 127.0.0.1",
        )


def allowed_hosts(host: str, further: Sequence[str] = ()) -> frozenset[str] | None:
    """Host names that a request may carry; None, for any, on a public server without ``further``.

    A page of a stranger can point its own name at 127.0.0.1 (DNS rebinding); the Host header that
    the browser then sends gives it away.  A public server is protected by its key.

    Args:
        host: the address that the server is bound to.
        further: names under which a proxy, or the network, knows the server.
    Raises:
        ConfigError: one of ``further`` is no plain host name.
    """
    if not further and not is_loopback(host):
        return None
    own = {"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host.lower()}
    return frozenset(own | {_plain_name(name) for name in further})


def _plain_name(given: str) -> str:
    try:
        if ":" in given.strip("[]"):
            return f"[{ipaddress.IPv6Address(given.strip('[]')).compressed}]"
        name = given.encode("idna").decode().lower()
    except ValueError:
        name = ""
    if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
        raise ConfigError(
            f"--allowed-host {given!r} is no host name",
            "give a name alone, without http://, port or path: --allowed-host books.example.org",
        )
    return name


def root_path(given: str) -> str:
    """The path under which a proxy shows the server, with a slash before and none behind.

    >>> [root_path(p) for p in ("", "/", "books", "/books/", "/a/b")]
    ['', '', '/books', '/books', '/a/b']

    Raises:
        ConfigError: it is no plain path.
    """
    path = "/" + given.strip("/") if given.strip("/") else ""
    if not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*", path):
        raise ConfigError(
            f"--root-path {given!r} is no plain path",
            "use letters, digits and -._~ between slashes: --root-path /books",
        )
    return path


def is_own_origin(origin: str, host: str, hosts: frozenset[str] | None) -> bool:
    """Whether a page of ``origin`` is a page of this server.

    It is where its name and port are those of the Host header, or where its name is one of the
    ``hosts`` that are not this machine's own names (behind a proxy the Host header may be another; on
    this machine another port is another program).

    >>> is_own_origin("http://localhost:8000", "localhost:8000", None)
    True
    >>> is_own_origin("https://books.example.org", "127.0.0.1:8000", frozenset({"books.example.org"}))
    True
    >>> is_own_origin("http://localhost:3000", "localhost:8000", frozenset({"localhost"}))
    False
    """
    try:
        parts = urlsplit(origin)
        default = PORTS[parts.scheme]
        asked = urlsplit(f"//{host}")
        ports = parts.port or default, asked.port or default
    except (ValueError, KeyError):
        return False
    name = host_name(parts.netloc)
    if hosts is not None and name in hosts and not is_loopback(name.strip("[]")):
        return True
    return bool(name) and name == host_name(host) and ports[0] == ports[1]


def host_name(header: str) -> str:
    """The Host header without its port.

    >>> [host_name(h) for h in ("LocalHost:80", "127.0.0.1", "[::1]:8000", "[::1]")]
    ['localhost', '127.0.0.1', '[::1]', '[::1]']
    """
    name, separator, port = header.strip().lower().rpartition(":")
    return name if separator and port.isdecimal() else header.strip().lower()


def gives_a_key(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request tries a key at all, right or wrong."""
    return bool(headers.get(b"x-api-key") or headers.get(b"authorization"))


def carries_key(headers: Mapping[bytes, bytes], key: str) -> bool:
    """Whether a request carries the key, compared in constant time.

    Accepted: ``Authorization: Bearer KEY``, ``X-API-Key: KEY``, or HTTP Basic with the key as
    password (so that a browser can open the page).
    """
    given = headers.get(b"x-api-key", b"")
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        given = value.strip()
    elif scheme.lower() == b"basic":
        try:
            given = base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            given = b""
    return hmac.compare_digest(given, key.encode())
