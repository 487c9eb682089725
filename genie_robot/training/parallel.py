"""Many processes and little memory: FSDP2, DDP as its degenerate case, recomputation, compilation, float8.

Model code knows nothing of this. `prepare` changes a stage's networks in place, in the order that torch wants:
recomputation, float8, compilation, sharding. With one process nothing is sharded and no process group exists.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from genie_robot.config import HardwareConfig
from genie_robot.errors import ConfigError
from genie_robot.nn.st_transformer import STBlock

T = TypeVar("T")

# Methods of the networks that run weights outside of `forward`: sharded weights must be gathered for them, too.
_METHODS = ("encode", "decode", "infer", "predict", "soft_actions", "logits", "remember")
_aten = torch.ops.aten
_EXPENSIVE = [
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
]


@dataclass(frozen=True)
class Processes:
    """One process among those that train together (started by torchrun or SLURM; see docs/training.md)."""

    rank: int
    world_size: int
    device: torch.device
    # Process groups of their own: checkpoints are written in the background and must not mix their messages with those
    # of training, and the others may have to wait for hours while the first process builds a cache.
    background: Any = None
    waiting: Any = None

    @property
    def is_first(self) -> bool:
        """True in the process that writes logs and model folders."""
        return self.rank == 0

    def wait_for_all(self) -> None:
        """Barrier."""
        if self.world_size > 1:
            dist.barrier(group=self.waiting)

    def share(self, value: T) -> T:
        """The first process's value, whatever it is; the others may have to wait for hours until it has one."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.waiting)
        return box[0]

    def sum(self, values: Tensor) -> Tensor:
        """Sum over processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def broadcast(self, values: Tensor) -> Tensor:
        """The first process's values, in place."""
        if self.world_size > 1:
            dist.broadcast(values, src=0)
        return values


ONE_PROCESS = Processes(0, 1, torch.device("cpu"))


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun or SLURM started, on `device` (cuda: the local one); leave them at the end."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(0, 1, device)
        return
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        background = dist.new_group(backend="gloo")
        waiting = dist.new_group(backend="gloo", timeout=timedelta(days=2))
        yield Processes(dist.get_rank(), world, device, background, waiting)
    finally:
        dist.destroy_process_group()


def prepare(networks: nn.ModuleDict, config: HardwareConfig, processes: Processes) -> None:
    """Apply `config` to the networks of a stage, in place."""
    blocks = [part for part in networks.modules() if isinstance(part, STBlock)]
    if config.compile:
        # All blocks share one function, and each stage, window length and cache is a variant of it.
        torch._dynamo.config.recompile_limit = 64
    for block in blocks:
        if config.recompute != "none":
            _recompute(block, config.recompute)
        if config.float8:
            _to_float8(block, processes.device)
        if config.compile:
            block.compile()  # one graph serves all blocks of a shape, so the wait is short
    if processes.world_size > 1:
        _share_batch_statistics(networks, processes)
        _shard(networks, blocks, config, processes)


def _recompute(block: STBlock, mode: str) -> None:
    arguments: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}  # no dropout anywhere
    if mode == "selective":
        arguments["context_fn"] = partial(create_selective_checkpoint_contexts, _EXPENSIVE)
    forward = block.forward

    def again(*inputs: Any) -> Tensor:
        return checkpoint(forward, *inputs, **arguments)

    # A function of ours: torch.compile traces it, and with it the recomputation. It would skip a functools.partial.
    block.forward = again  # type: ignore[method-assign]


def _to_float8(block: STBlock, device: torch.device) -> None:
    try:
        from torchao.float8 import convert_to_float8_training  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(
            "hardware.float8: got True, but torchao is not installed; pip install torchao"
        ) from error
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9):
        raise ConfigError(
            f"hardware.float8: got True on {device}, wanted a GPU of compute capability 8.9 or more"
        )
    convert_to_float8_training(block)


def _mesh(config: HardwareConfig, processes: Processes) -> DeviceMesh:
    shard = config.shard or processes.world_size
    if processes.world_size % shard:
        raise ConfigError(
            f"hardware.shard: got {shard}, wanted a divisor of the number of processes ({processes.world_size})"
        )
    shape = (processes.world_size // shard, shard)
    return init_device_mesh(processes.device.type, shape, mesh_dim_names=("replicate", "shard"))


def _shard(
    networks: nn.ModuleDict, blocks: list[STBlock], config: HardwareConfig, processes: Processes
) -> None:
    for name, value in networks.state_dict().items():
        assert torch.is_tensor(processes.broadcast(value)), name  # the same start everywhere
    mesh = _mesh(config, processes)
    # Weights travel as they are, in fp32, and autocast casts them where they multiply: norms, codebooks and pixels keep
    # their precision, as on one process. Half the traffic would not be worth another arithmetic.
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    whole = {p for p in networks.parameters() if id(p) in _whole_parameters(networks)}
    # Weights stay gathered between forward and backward (8 GB for the 2.5 B model, one gather a step less), unless
    # memory is what counts.
    reshard = config.recompute == "full"
    arguments: dict[str, Any] = {"mesh": mesh, "mp_policy": policy, "reshard_after_forward": reshard}
    for block in blocks:
        fully_shard(block, **arguments)
    for network in networks.values():
        if all(p in whole for p in network.parameters()):
            continue
        fully_shard(network, ignored_params=whole, **arguments)
        for method in _METHODS:
            if hasattr(network, method):
                register_fsdp_forward_method(network, method)


def _whole_parameters(networks: nn.ModuleDict) -> set[int]:
    """Parameters that every process keeps whole: codebooks, whose rows are set outside of backward, and discriminators."""
    found = {id(p) for part in quantizers(networks) for p in part.parameters(recurse=False)}
    return found | {
        id(p) for name, net in networks.items() if name == "discriminator" for p in net.parameters()
    }


def quantizers(networks: nn.Module) -> list[Any]:
    """Parts with codes that are looked after once a step (`after_step`)."""
    return [part for part in networks.modules() if hasattr(part, "counts_V")]


def after_step(networks: nn.Module, processes: Processes) -> None:
    """Let each codebook see the uses of all processes and move its dead codes, alike everywhere."""
    for part in quantizers(networks):
        processes.sum(part.counts_V)
        processes.broadcast(part.candidates_VK)
        part.after_step()


class _SharedBatchNorm(nn.BatchNorm1d):
    """Batch statistics over all processes, on any device (torch's SyncBatchNorm needs a GPU). No affine part."""

    def forward(self, input: Tensor) -> Tensor:
        """(rows, features) -> the same, normalised."""
        if not self.training:
            return super().forward(input)
        from torch.distributed.nn.functional import all_reduce  # differentiable

        rows = all_reduce(torch.tensor([float(len(input))], device=input.device))
        mean = all_reduce(input.float().sum(0)) / rows
        variance = all_reduce((input.float() - mean).square().sum(0)) / rows
        with torch.no_grad():
            assert (
                self.running_mean is not None and self.running_var is not None and self.momentum is not None
            )
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = variance * rows / (rows - 1)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        return ((input - mean) * torch.rsqrt(variance + self.eps)).to(input.dtype)


def _share_batch_statistics(networks: nn.ModuleDict, processes: Processes) -> None:
    for part in networks.modules():
        if isinstance(part, nn.BatchNorm1d):
            assert not part.affine
            part.__class__ = _SharedBatchNorm


@contextmanager
def accumulating(networks: nn.ModuleDict, last: bool, config: HardwareConfig) -> Iterator[None]:
    """Sharded networks exchange gradients, and give gathered weights back, in the last micro-batch of a step only.

    Where memory is what counts, they give the weights back after each.
    """
    for network in networks.values():
        if isinstance(network, FSDPModule):
            network.set_requires_gradient_sync(last)
            network.set_reshard_after_backward(last or config.recompute == "full")
    yield


def reshard(networks: nn.Module) -> None:
    """Give gathered weights back, as the backward pass does: what follows passes without one."""
    for part in networks.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def local(tensor: Tensor) -> Tensor:
    """The part of a sharded tensor that lives here (a view); a whole tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def average_whole_gradients(networks: nn.Module, processes: Processes) -> None:
    """What FSDP does for sharded parameters, for those that every process keeps whole."""
    if processes.world_size > 1:
        for parameter in networks.parameters():
            if parameter.grad is not None and not isinstance(parameter.grad, DTensor):
                processes.sum(parameter.grad).div_(processes.world_size)


def scale_gradients(parameters: Iterable[nn.Parameter], factor: float) -> None:
    """Multiply gradients in place."""
    gradients = [local(p.grad) for p in parameters if p.grad is not None]
    if gradients:
        torch._foreach_mul_(gradients, factor)


def clip_gradients(networks: nn.Module, max_norm: float) -> float:
    """Clip by the norm over all parameters and processes; returns the norm before (maybe not finite)."""
    gradients = [p.grad for p in networks.parameters() if p.grad is not None]
    sharded = [g for g in gradients if isinstance(g, DTensor)]
    whole = [g for g in gradients if not isinstance(g, DTensor)]
    square = 0.0
    if sharded:
        norm = torch.nn.utils.get_total_norm(sharded)
        square += float(norm.full_tensor() if isinstance(norm, DTensor) else norm) ** 2
    if whole:
        square += float(torch.nn.utils.get_total_norm(whole)) ** 2
    total = square**0.5
    if total > max_norm:
        scale_gradients(networks.parameters(), max_norm / (total + 1e-6))
    return total
