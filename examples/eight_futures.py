"""One camera picture, eight latent actions, eight imagined futures: writes docs/images/eight_actions.png.

python examples/eight_futures.py [out.png]
"""

from __future__ import annotations

import sys

import cv2
import numpy as np

import genie_robot
from genie_robot.simulation.mujoco.generate import generate_episode

STEPS, SCALE, PAD = 4, 2, 22


def main() -> None:
    """Prompt, fork into eight, repeat each action a few times, and lay the films out in a grid."""
    model = genie_robot.load("weights/tabletop-tiny")
    prompt = generate_episode(3, seed=7, split="test")["frames_TYXC"][:1]
    session = genie_robot.WorldSession(model)
    session.reset(prompt)
    futures = session.fork(model.num_actions)
    films = [futures.step(np.arange(model.num_actions)) for _ in range(STEPS)]

    cells = []
    for action in model.latent_actions:
        film = np.concatenate([prompt[0], *(frames[action.code] for frames in films)], axis=1)
        cell = cv2.resize(film, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
        cell = cv2.copyMakeBorder(cell, PAD, 6, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        label = f"{action.code}: {action.name}"
        cv2.putText(cell, label, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
        cells.append(cell)
    rows = [np.concatenate(cells[i : i + 2], axis=1) for i in range(0, len(cells), 2)]
    out = sys.argv[1] if len(sys.argv) > 1 else "docs/images/eight_actions.png"
    cv2.imwrite(out, np.concatenate(rows)[..., ::-1])
    print(
        f"wrote {out}: the prompt and {STEPS} imagined frames for each of {model.num_actions} latent actions"
    )


if __name__ == "__main__":
    main()
