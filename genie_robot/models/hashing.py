"""Short names for weights: which tokenizer made these tokens, which model measured these codes."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def weights_hash(module: nn.Module) -> str:
    """First 12 hex digits of the SHA-256 of a module's state dict: names and bytes, in the order of the names.

    It follows the weights as they are now: another number type gives another hash, another device does not.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
