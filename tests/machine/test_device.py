"""The guard against CUDA packages, and the choice of a device."""

import pytest

from sasrecllm.errors import EnvironmentRefusal
from sasrecllm.machine.device import check_cuda_packages, pick_device


def test_cuda_packages_without_a_gpu_are_refused_with_a_remedy():
    with pytest.raises(EnvironmentRefusal, match="nvidia-cublas-cu12") as refused:
        check_cuda_packages(["torch", "nvidia-cublas-cu12", "triton"], gpu=False)
    assert refused.value.exit_code == 3 and "PIP_CONSTRAINT" in refused.value.remedy
    check_cuda_packages(["torch", "nvidia-cublas-cu12"], gpu=True)
    check_cuda_packages(["torch"], gpu=False)


def test_a_named_device_that_is_absent_is_refused():
    import torch

    if not torch.cuda.is_available():
        assert pick_device() == "cpu"
        with pytest.raises(EnvironmentRefusal, match="no CUDA device"):
            pick_device("cuda")
