"""One page and one JSON file that another group can read, check and repeat: `write_report(summary, folder)`."""

from genie_robot.evaluation.policy_report.write import write_report

__all__ = ["write_report"]
