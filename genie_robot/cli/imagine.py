"""`genie-robot imagine`: a prompt and a list of latent actions -> what the model imagines, as strip, GIF and MP4."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from genie_robot.config import TEMPERATURE

_EPILOG = """examples:
  genie-robot imagine --data outputs/tabletop --actions left*3,down,close,up*3
  genie-robot imagine --prompt camera.png --actions 0,0,3,3,5 --seed 1 --out outputs/mine
  genie-robot imagine --data outputs/tabletop --episode 2 --frame 4 --actions inferred
  genie-robot imagine --prompt camera.png --actions left*20 --bag outputs/left_bag --mp4 outputs/left.mp4 --rlds datasets

An action is a code or the name that was measured for it (see `genie-robot actions`), times a count. "inferred" drives
the model with the latent actions of the episode itself and shows the true frames above the imagined ones.
Writes OUT.png (strip), OUT.gif and OUT.mp4. --bag, --mp4 and --rlds write the imagined frames alone, the last prompt
frame first, at the model's size and rate, for other tools.
"""


def add_parser(subparsers: Any) -> None:
    """Add `imagine`."""
    parser = subparsers.add_parser(
        "imagine",
        help="prompt image and a list of actions -> strip PNG, GIF, MP4",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", default="weights/tabletop-tiny", help="model folder (default: %(default)s)"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prompt", metavar="IMAGE", help="prompt image (any size; it is cut and resized)")
    source.add_argument("--data", metavar="DIR", help="dataset to take the prompt from")
    parser.add_argument("--split", default="test", help="split of the dataset (default: %(default)s)")
    parser.add_argument(
        "--episode", type=int, default=0, metavar="N", help="number of the episode, from 0 (default: 0)"
    )
    parser.add_argument(
        "--frame", type=int, default=0, metavar="K", help="the last prompt frame, from 0 (default: 0)"
    )
    parser.add_argument(
        "--prompt-frames", type=int, default=1, metavar="T", help="frames of the prompt (default: 1)"
    )
    parser.add_argument("--actions", required=True, help='such as "left*3,down,5,5" or "inferred"')
    parser.add_argument("--seed", type=int, default=0, help="of sampling (default: 0)")
    parser.add_argument(
        "--maskgit-steps", type=int, default=8, metavar="M", help="sampling passes a frame (default: 8)"
    )
    parser.add_argument(
        "--temperature", type=float, default=TEMPERATURE, help="of sampling (default: %(default)s)"
    )
    parser.add_argument(
        "--order",
        choices=("random", "confidence", "halton"),
        default="random",
        help="in which the tokens of a frame are revealed (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        default="outputs/imagine",
        metavar="BASE",
        help="files to write, without ending (default: %(default)s)",
    )
    parser.add_argument(
        "--bag", metavar="DIR", help="ROS 2 bag to write (MCAP): images, camera_info, latent actions"
    )
    parser.add_argument("--mp4", metavar="FILE", help="H.264 video to write; plays in browsers")
    parser.add_argument("--rlds", metavar="DIR", help="folder to write the RLDS dataset imagined/1.0.0 into")
    parser.add_argument("--json", metavar="FILE", help="write what was done as JSON (- for the screen)")


def parse_actions(text: str, names: dict[str, int], num_actions: int) -> list[int]:
    """Codes of "left*3,5,up": names (any case) and codes, each times a count; ActionError says what is allowed."""
    from genie_robot.errors import ActionError

    known = {name.lower(): code for name, code in names.items() if name}
    # a code that does two things, "close/open", is meant by either word
    parts = {part: code for name, code in known.items() for part in name.split("/")}
    shorter = parts | known
    codes: list[int] = []
    for item in text.split(","):
        word, star, times = (part.strip() for part in item.partition("*"))
        if star and not (times.isascii() and times.isdigit() and 1 <= int(times) <= 10_000):
            raise ActionError(
                f"action {item.strip()!r}: the count is {times!r}; wanted a whole number from 1, such as left*3"
            )
        if word.lower() in shorter:
            code = shorter[word.lower()]
        elif word.isascii() and word.isdigit() and int(word) < num_actions:
            code = int(word)
        else:
            wanted = f"a code 0..{num_actions - 1}" + (f" or one of: {', '.join(known)}" if known else "")
            raise ActionError(f"action {word!r} does not exist; wanted {wanted}")
        codes += [code] * (int(times) if star else 1)
    return codes


def run(args: argparse.Namespace) -> int:
    """Imagine and write the pictures; returns the exit code."""
    import numpy as np
    from tqdm import tqdm

    from genie_robot.cli._evaluation import check_counts, open_model, write_json
    from genie_robot.evaluation.pictures import grid, write_gif, write_mp4, write_png
    from genie_robot.simulation.world_session import WorldSession

    check_counts(args, "prompt_frames", "maskgit_steps")
    _check_exports(args)
    model = open_model(args.model)
    prompt, future = _prompt(args, model)
    codes = _codes(args, model, prompt, future)
    session = WorldSession(
        model, maskgit_steps=args.maskgit_steps, temperature=args.temperature, order=args.order
    )
    frames = [session.reset(prompt, seed=args.seed)]
    frames += [session.step(code) for code in tqdm(codes, desc="imagine", unit="frame", leave=False)]
    film = np.stack(frames)
    exported = _export(args, film, codes, model.dt_s)
    names = {action.code: action.name or str(action.code) for action in model.latent_actions}
    head = ["prompt", *(names[code] for code in codes)]
    if args.actions.strip() == "inferred":
        truth = np.concatenate([prompt[-1:], future[: len(codes)]])
        picture = grid([list(truth), list(film)], [["true"], ["imagined"]], head, label_width=76)
        film = np.concatenate([truth, film], axis=2)
    else:
        picture = grid([list(film)], [["imagined"]], head, label_width=76)
    base = Path(args.out)
    written = [write_png(base.with_name(base.name + ".png"), picture)]
    written.append(write_mp4(base.with_name(base.name + ".mp4"), film, model.dt_s))
    gif = write_gif(base.with_name(base.name + ".gif"), film, model.dt_s)
    written += ([gif] if gif else []) + exported
    if args.json != "-":
        print("wrote " + ", ".join(str(path) for path in written))
        if gif is None:
            print("no GIF: this OpenCV cannot write one; install opencv-python-headless 4.11 or later")
    write_json(
        args.json,
        {"actions": codes, "names": head[1:], "seed": args.seed, "files": [str(p) for p in written]},
    )
    return 0


def _check_exports(args: argparse.Namespace) -> None:
    """ConfigError when something is there already, before anything is imagined."""
    from genie_robot.data.export import check_new, rlds_folder

    for place in (args.bag, args.rlds and rlds_folder(args.rlds)):
        if place:
            check_new(place)


def _export(args: argparse.Namespace, film: Any, codes: list[int], dt_s: float) -> list[Path]:
    """Write the frames (T, Y, X, 3) and the codes between them as the options say; returns what was written."""
    from genie_robot.data.export import export_bag, export_rlds

    written = []
    if args.bag:
        written.append(export_bag(args.bag, film, codes, dt_s))
    if args.rlds:
        facts = {"model": str(args.model), "seed": args.seed}
        written.append(export_rlds(args.rlds, film, codes, dt_s, facts))
    if args.mp4:
        from genie_robot.data.video import write_h264  # PyAV is an extra

        written.append(write_h264(args.mp4, film, dt_s))
    return written


def _prompt(args: argparse.Namespace, model: Any) -> tuple[Any, Any]:
    """Prompt frames (T, Y, X, 3) and the true frames after them (possibly none), at the model's size."""
    import numpy as np

    from genie_robot.cli._evaluation import load_episodes
    from genie_robot.data.resize import resize_frame
    from genie_robot.errors import ConfigError
    from genie_robot.evaluation.pictures import read_image

    size = model.image_height, model.image_width
    if args.prompt:
        frame = resize_frame(read_image(args.prompt), *size)
        return frame[None], np.zeros((0, *frame.shape), np.uint8)
    if args.episode < 0:
        raise ConfigError(f"--episode is {args.episode}; wanted 0 or more")
    episodes = load_episodes(args.data, args.split, limit=args.episode + 1, image_hw=size)
    if len(episodes) <= args.episode:
        raise ConfigError(
            f"--episode is {args.episode}; split {args.split!r} has {len(episodes)} episodes, from 0"
        )
    frames = episodes[args.episode].frames_TYXC
    if not args.prompt_frames - 1 <= args.frame < len(frames):
        raise ConfigError(
            f"--frame is {args.frame} with --prompt-frames {args.prompt_frames}; wanted "
            f"{args.prompt_frames - 1}..{len(frames) - 1} in this episode"
        )
    return frames[args.frame - args.prompt_frames + 1 : args.frame + 1], frames[args.frame + 1 :]


def _codes(args: argparse.Namespace, model: Any, prompt: Any, future: Any) -> list[int]:
    import numpy as np

    from genie_robot.errors import ActionError
    from genie_robot.simulation.action_interface import infer_codes

    model.require_codes("--actions")
    if args.actions.strip() != "inferred":
        return parse_actions(args.actions, {a.name: a.code for a in model.latent_actions}, model.num_actions)
    if not len(future):
        raise ActionError(
            "--actions inferred wants true frames after the prompt; use --data and an earlier --frame"
        )
    codes = infer_codes(model, np.concatenate([prompt, future])[None])[0]
    return [int(code) for code in codes[len(prompt) - 1 :]]
