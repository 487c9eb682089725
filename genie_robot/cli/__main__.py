"""`python -m genie_robot.cli` is `genie-robot`."""

from __future__ import annotations

import sys

from genie_robot.cli import main

if __name__ == "__main__":
    sys.exit(main())
