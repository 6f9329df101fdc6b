"""Who may ask: loopback by default, a key for everything else.

The key comes from a file or the environment, never from a flag or a URL, because both of these are
seen by others (process lists, proxies' logs).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

from sasrecllm.errors import ConfigError

KEY_VARIABLE = "SASRECLLM_API_KEY"
SHORTEST_KEY = 16
OPEN_PATHS = frozenset({"/healthz"})


def read_key(key_file: Path | None, environment: Mapping[str, str] | None = None) -> str | None:
    """The key from ``key_file``, else from the environment, else None.

    Raises:
        ConfigError: the file cannot be read, or the key is short or not plain ASCII.
    """
    if key_file is not None:
        try:
            key, source = key_file.read_text(encoding="utf-8").strip(), str(key_file)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"--key-file {key_file} cannot be read: {error}", "name a text file"
            ) from error
    else:
        value = (os.environ if environment is None else environment).get(KEY_VARIABLE)
        if value is None:
            return None
        key, source = value.strip(), KEY_VARIABLE
    if len(key) < SHORTEST_KEY or not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(
            f"the key in {source} has {len(key)} characters or holds odd ones;"
            f" needed: at least {SHORTEST_KEY} printable ASCII characters without spaces",
            "make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
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


def allowed_hosts(host: str) -> frozenset[str] | None:
    """Host names that a request to a loopback server may carry; None for a public one.

    A page of a stranger can point its own name at 127.0.0.1 (DNS rebinding); the Host header that
    the browser then sends gives it away.  A public server is protected by its key.
    """
    if not is_loopback(host):
        return None
    return frozenset({"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host.lower()})


def host_name(header: str) -> str:
    """The Host header without its port.

    >>> [host_name(h) for h in ("LocalHost:80", "127.0.0.1", "[::1]:8000", "[::1]")]
    ['localhost', '127.0.0.1', '[::1]', '[::1]']
    """
    name, separator, port = header.strip().lower().rpartition(":")
    return name if separator and port.isdigit() else header.strip().lower()


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
