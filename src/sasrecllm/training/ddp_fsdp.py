"""The processes that train one model: each with the whole of it (DDP) or with a share of it (FSDP2).

Which of the two is accelerate's configuration: with ``ACCELERATE_USE_FSDP`` (``accelerate launch`` sets
it from its file) every parameter, gradient and moment is cut among the processes, and a layer of a
language model is whole only while it computes.  Checkpoints hold whole tensors either way, so a run may
go on under the other one, or in one process.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from sasrecllm.errors import ConfigError
from sasrecllm.training.task import Task
from sasrecllm.types import FloatArray


class Job:
    """A task among the processes that train it.

    Args:
        task: a :class:`~sasrecllm.training.task.Task`; it stays whole, and takes what was learnt by
            :meth:`give_back`.

    Raises:
        ConfigError: accelerate's configuration asks for the FSDP of before.
    """

    def __init__(self, task: Task, device: str) -> None:
        self.accelerator = Accelerator(
            cpu=device == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.is_main = self.accelerator.is_main_process
        self.device = self.accelerator.device
        self.sharded = self.world > 1 and _asks_for_shares()
        self._given = task
        self.task: Task = self._cut(task) if self.sharded else task
        self.model: Any = self.task
        self.parameters: dict[str, nn.Parameter] = self.task.trainable()

    def prepared(self, optimizer: Any) -> Any:
        """The optimiser of :attr:`parameters`, ready to step; :attr:`model` is ready to be called."""
        if not self.sharded:
            self.model, optimizer = self.accelerator.prepare(self.task, optimizer)
        return optimizer

    def adding_up(self, last: bool) -> AbstractContextManager[Any]:
        """A backward pass whose gradients are added up over the processes if it is the ``last``."""
        if self.sharded:
            self.model.set_requires_gradient_sync(last)
        elif not last:
            held: AbstractContextManager[Any] = self.accelerator.no_sync(self.model)
            return held
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """The gradients of ``loss``."""
        if self.sharded:
            torch.autograd.backward(loss)
        else:
            self.accelerator.backward(loss)

    def scores(self, n: int) -> FloatArray:
        """The task's validation scores of rows 0 to ``n``, each process asking about every so many."""
        longest = math.ceil(n / self.world)
        mine = np.arange(self.rank, n, self.world)
        if self.sharded:  # all processes must ask for the same number of layers
            mine = np.concatenate([mine, np.zeros(longest - len(mine), dtype=np.int64)])
        with torch.no_grad():
            own = self.task.validation_scores(mine)
        if self.sharded:
            self.model.reshard()
        return own if self.world == 1 else self._gathered(own, longest, n)

    def _gathered(self, own: FloatArray, longest: int, n: int) -> FloatArray:
        """The scores of all processes in the order of the rows, each row once."""
        padded = torch.zeros(longest, dtype=torch.float64)
        padded[: len(own)] = torch.from_numpy(own)
        whole = self.accelerator.gather(padded.to(self.device)).cpu().numpy()
        return np.asarray(whole.reshape(self.world, longest).T.reshape(-1)[:n], dtype=np.float64)

    def summed(self, *values: float) -> list[float]:
        """Each of ``values`` added up over all processes."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, device=self.device)
        return [float(v) for v in self.accelerator.reduce(tensor, reduction="sum")]

    def wholes(self, tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
        """Whole tensors by name, in the first process; the others only hand over their shares."""
        found = {}
        for name, tensor in tensors:
            whole = self._whole(tensor)
            if self.is_main:
                found[name] = whole.cpu() if self.sharded else whole
        return found

    @staticmethod
    def _whole(tensor: Tensor) -> Tensor:
        found: Any = tensor.detach()
        whole: Tensor = found.full_tensor() if hasattr(found, "full_tensor") else found
        return whole

    def like(self, whole: Tensor, parameter: Tensor) -> Tensor:
        """``whole`` as ``parameter`` is held: on its device, and the share of it."""
        whole = whole.detach().to(parameter.device)
        if not self.sharded or whole.shape != parameter.shape:  # a moment's count of steps is no table
            return whole
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(parameter, DTensor)
        mesh, placements = parameter.device_mesh, parameter.placements
        return distribute_tensor(whole, mesh, placements, src_data_rank=None)

    @torch.no_grad()
    def give_back(self, learnt: Mapping[str, Tensor]) -> None:
        """Put what was learnt, by the parameters' names, into the task."""
        for name, parameter in self.parameters.items():
            parameter.copy_(learnt.get(name, parameter))
        if self.sharded:
            for name, parameter in self._given.trainable().items():
                parameter.copy_(self._whole(self.parameters[name]))
            self._given.to(self.device)

    def wait(self) -> None:
        """Let the processes meet."""
        self.accelerator.wait_for_everyone()

    def _cut(self, task: Task) -> Any:
        """A copy of ``task`` of which every process holds its share."""
        from torch.distributed import fsdp
        from torch.distributed.device_mesh import init_device_mesh

        plugin = _plugin()
        given: dict[str, Any] = {
            "mesh": init_device_mesh(self.device.type, (self.world,)),
            "mp_policy": plugin.mixed_precision_policy or fsdp.MixedPrecisionPolicy(),
            "offload_policy": plugin.cpu_offload,
        }
        # Its shares move to the device; the whole must not stand there.
        twin: Any = copy.deepcopy(task.cpu())
        for layer in _layers(twin):
            fsdp.fully_shard(layer, reshard_after_forward=plugin.reshard_after_forward, **given)
        fsdp.fully_shard(twin, **given)
        twin.set_reduce_scatter_unused_params(True)
        for module in twin.modules():
            if isinstance(module, fsdp.FSDPModule):  # gloo knows no mean
                module.set_force_sum_reduction_for_comms(self.device.type == "cpu")
        fsdp.register_fsdp_forward_method(twin, "validation_scores")
        return twin


def _asks_for_shares() -> bool:
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def _plugin() -> Any:
    """accelerate's own reading of its configuration."""
    version = os.environ.get("FSDP_VERSION", "1")
    if version != "2":
        raise ConfigError(
            f"accelerate's configuration has fsdp_version {version}; allowed: 2",
            "set fsdp_version: 2 in its file, or FSDP_VERSION=2 in the environment",
        )
    from accelerate import FullyShardedDataParallelPlugin

    return FullyShardedDataParallelPlugin()


def _layers(task: nn.Module) -> list[nn.Module]:
    """The layers of a language model in ``task``, as its library names what must stay together.

    But the last, which stays with the rest: of the beginnings that prompts share nothing but its keys
    and values is used, and a layer fetches its share again for gradients of its output alone.
    """
    names: set[str] = set()
    for module in task.modules():
        names |= set(getattr(module, "_no_split_modules", None) or ())
    return [module for module in task.modules() if type(module).__name__ in names][:-1]
