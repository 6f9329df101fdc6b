"""The command that is written into a run: a shell takes it, and it holds nobody's password."""

from __future__ import annotations

import shlex
import sys

import pytest

from sasrecllm.machine.command import own_command


def test_a_shell_takes_it_as_it_was_given(monkeypatch):
    words = ["run", "data.words={item: book, items: books}", "name=it's mine", "--out", "a b"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/sasrecllm", *words])
    assert shlex.split(own_command()) == ["sasrecllm", *words]


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("postgresql://ann:s3cret@db.shop:5432/likes", "postgresql://db.shop:5432/likes"),
        ("--from-store=postgresql://ann:s3cret@db/likes", "--from-store=postgresql://db/likes"),
        ("postgres://db/likes?user=ann&password=s3cret", "postgres://db/likes"),
        ("postgresql://ann:p%40s3cret@db/likes", "postgresql://db/likes"),
        ("postgresql://ann:[x@db:6432/likes", "postgresql://db:6432/likes"),
        ("postgresql://ann:p/s3cret@db/likes", "postgresql://..."),
        ("postgresql://ann:p?s3cret@db/likes", "postgresql://..."),
        ("postgresql://ann:s3 cret@db/likes", "postgresql://db/likes"),
        ("--from-store=postgres://db/likes?password=s3 cret", "--from-store=postgres://db/likes"),
        ("https://files.shop/@ann/orders.csv", "https://files.shop/@ann/orders.csv"),
        ("https://files.shop/orders.csv", "https://files.shop/orders.csv"),
        ("sqlite:////tmp/a.sqlite", "sqlite:////tmp/a.sqlite"),
        ("ann@shop.example", "ann@shop.example"),
    ],
)
def test_a_database_s_password_is_left_out(monkeypatch, word, shown):
    monkeypatch.setattr(sys, "argv", ["sasrecllm", "update", "runs/shop", word])
    assert own_command() == f"sasrecllm update runs/shop {shlex.quote(shown)}"
