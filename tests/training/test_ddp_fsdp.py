"""Processes that train together: what accelerate's configuration may say, and one process as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from sasrecllm.errors import ConfigError
from sasrecllm.training import ddp_fsdp
from sasrecllm.training.task import Task


class Sum(Task):
    name, monitor, n_validation = "sum", "score", 5

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.arange(3.0))

    def validation_scores(self, positions):
        assert not torch.is_grad_enabled()
        return positions * 2.0


def test_the_fsdp_of_before_is_refused_with_what_to_set(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.delenv("FSDP_VERSION", raising=False)
    with pytest.raises(ConfigError, match="fsdp_version 1; allowed: 2") as refused:
        ddp_fsdp._plugin()
    assert "FSDP_VERSION=2" in refused.value.remedy


def test_accelerates_own_reading_of_its_configuration_counts(monkeypatch):
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("FSDP_RESHARD_AFTER_FORWARD", "false")
    assert ddp_fsdp._plugin().reshard_after_forward is False


def test_one_process_is_never_cut_and_gives_back_what_it_learnt(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    task = Sum()
    alone = ddp_fsdp.Job(task, "cpu")
    assert not alone.sharded and alone.task is task and alone.is_main
    assert np.array_equal(alone.scores(5), [0, 2, 4, 6, 8])
    assert alone.summed(1.5, 2.0) == [1.5, 2.0]
    alone.give_back({"table": torch.ones(3)})
    assert torch.equal(task.table.detach(), torch.ones(3))


def test_the_layers_to_cut_are_those_that_the_library_keeps_together_but_the_last():
    class Layer(nn.Module):
        pass

    class Library(nn.Module):
        _no_split_modules = ("Layer",)

        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([Layer(), Layer()])

    library = Library()
    assert ddp_fsdp._layers(nn.Sequential(library, nn.Linear(2, 2))) == [library.layers[0]]
    assert ddp_fsdp._layers(Sum()) == []
