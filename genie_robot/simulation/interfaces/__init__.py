"""Action interfaces: from robot actions to what drives a world model, and back.

    interface = load_interface("weights/manipulation-tiny", "m1:8x2", model)
    interface.reset(16, poses_of(states_BK, suite.state_names))    # poses: m2 alone looks at them
    frames = session.step(interface.encode(actions_BA, frames, is_open_B))

m0            one of Genie's latent codes, by tables that never look at the image
m1:8          an adapter (robot action, image) -> the model's latent action: one code,
m1:8x2        two residual codes
m1:8x3        or three, the finer ones of small steps,
m1:continuous or the vector before the quantizer; all with error feedback
m2            the robot action itself, and the pose that it commands: the default of an evaluation
"""

from genie_robot.simulation.interfaces.adapter import LatentAdapter
from genie_robot.simulation.interfaces.decoder import CodeDictionary, Decoder, StateDecoder
from genie_robot.simulation.interfaces.folder import load_interface, save_interface
from genie_robot.simulation.interfaces.latent import LatentInterface, TableInterface
from genie_robot.simulation.interfaces.latent_space import (
    LatentSpace,
    Transitions,
    label_transitions,
    latent_space,
    model_spaces,
)
from genie_robot.simulation.interfaces.native import NativeInterface
from genie_robot.simulation.interfaces.networks import ImageFeatures
from genie_robot.simulation.interfaces.protocol import ActionInterface, check_actions, still_open

__all__ = [
    "ActionInterface",
    "CodeDictionary",
    "Decoder",
    "ImageFeatures",
    "LatentAdapter",
    "LatentInterface",
    "LatentSpace",
    "NativeInterface",
    "StateDecoder",
    "TableInterface",
    "Transitions",
    "check_actions",
    "label_transitions",
    "latent_space",
    "load_interface",
    "model_spaces",
    "save_interface",
    "still_open",
]
