"""Who was forgotten in a run: a keyed digest of each id, and the moment.

So rows of an earlier log do not bring him back; later rows are those of somebody new.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sasrecllm.checkpoint import read_json
from sasrecllm.runs.folder import RunFolder


@dataclass(frozen=True)
class Forgotten:
    """Forgotten users.

    Args:
        key: of the digests, drawn for the run.
        at: digest of an id -> Unix second in which its user was forgotten.
    """

    key: str = ""
    at: Mapping[str, int] = field(default_factory=dict)

    def moment(self, user: str) -> int | None:
        """When the user of an id was forgotten; None where he was not."""
        return self.at.get(self.digest(user)) if self.at else None

    def and_now(self, users: Iterable[str]) -> Forgotten:
        """These and ``users``, who are forgotten now."""
        key = self.key or secrets.token_hex(16)
        more = Forgotten(key)
        now = int(time.time())
        return Forgotten(key, {**self.at, **{more.digest(user): now for user in users}})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"key": self.key, "at": dict(self.at)}

    def digest(self, user: str) -> str:
        """What is kept of an id."""
        return hmac.new(self.key.encode(), user.encode(), hashlib.sha256).hexdigest()


def forgotten_in(run: RunFolder) -> Forgotten:
    """The forgotten users of a run.

    Raises:
        CheckpointError: the file is damaged.
    """
    if not run.forgotten.is_file():
        return Forgotten()
    found = read_json(run.forgotten, key=str, at=dict)
    return Forgotten(found["key"], {str(k): int(v) for k, v in found["at"].items()})
