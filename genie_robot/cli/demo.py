"""`genie-robot demo`: the whole loop on real parts, small in scale only, ending in one report."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """examples:
  genie-robot demo                      everything that is not done yet, about 12 minutes on two cores the first time
  genie-robot demo --force              all of it again
  genie-robot demo --quick --out /tmp/d tiny sizes, to see that everything runs; its numbers say nothing

Then open outputs/demo/report.html. Ctrl-C is safe: finished steps are kept, training goes on where it was.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `demo` command."""
    parser = subparsers.add_parser(
        "demo",
        help="the main job end to end; writes outputs/demo/report.html and report.json",
        description="MuJoCo episodes -> training without actions -> imagination -> ROS 2 -> policies judged -> one report.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", metavar="DIR", default="outputs/demo", help="where to write (default: outputs/demo)"
    )
    parser.add_argument(
        "--model", metavar="DIR", help="judge this model folder (default: weights/tabletop-tiny)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, in an own folder unless --out is given"
    )
    parser.add_argument("--force", action="store_true", help="do every step again")


def run(args: argparse.Namespace) -> int:
    """Run the demo; exit code 0 when every step ran, whatever the numbers are."""
    from genie_robot.demo.run import MODEL_FOLDER, DemoSettings, run_demo

    out = Path("outputs/demo-quick") if args.quick and args.out == "outputs/demo" else Path(args.out)
    run_demo(
        DemoSettings(
            out=out.resolve(),
            model_folder=Path(args.model).resolve() if args.model else MODEL_FOLDER,
            quick=args.quick,
            force=args.force,
        )
    )
    return 0
