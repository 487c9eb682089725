"""Configuration of models and training: frozen dataclasses that check themselves.

Hydra composes them in `train.py`; the library takes only these objects. A wrong value raises `ConfigError`
that names the field, the value and what is allowed, before any work starts.
"""

from genie_robot.config.dicts import from_dict, to_dict
from genie_robot.config.model import (
    DYNAMICS_HORIZON,
    MASKGIT_STEPS,
    TEMPERATURE,
    DynamicsConfig,
    LatentActionConfig,
    SamplingConfig,
    TokenizerConfig,
    TransformerConfig,
    VideoConfig,
    WorldModelConfig,
)
from genie_robot.config.training import (
    STAGES,
    DataConfig,
    HardwareConfig,
    StageConfig,
    TrainConfig,
    TrainingConfig,
)

__all__ = [
    "DYNAMICS_HORIZON",
    "MASKGIT_STEPS",
    "STAGES",
    "TEMPERATURE",
    "DataConfig",
    "DynamicsConfig",
    "HardwareConfig",
    "LatentActionConfig",
    "SamplingConfig",
    "StageConfig",
    "TokenizerConfig",
    "TrainConfig",
    "TrainingConfig",
    "TransformerConfig",
    "VideoConfig",
    "WorldModelConfig",
    "from_dict",
    "to_dict",
]
