"""Vectors to codes, and the continuous bottleneck of latent actions: all names in one place.

All take vectors (..., K) and a generator a row (used by the one that samples), and give `vectors`, `codes`, `loss`.
"""

from genie_robot.nn.quantize_codebook import (
    Codebook,
    Quantized,
    ResidualVectorQuantizer,
    VectorQuantizer,
    code_digits,
)
from genie_robot.nn.quantize_fixed import (
    FiniteScalarQuantizer,
    GaussianBottleneck,
    LookupFreeQuantizer,
    Sampled,
    entropy_penalty,
)

__all__ = [
    "Codebook",
    "VectorQuantizer",
    "ResidualVectorQuantizer",
    "FiniteScalarQuantizer",
    "LookupFreeQuantizer",
    "GaussianBottleneck",
    "Quantized",
    "Sampled",
    "code_digits",
    "entropy_penalty",
]
