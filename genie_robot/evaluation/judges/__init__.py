"""Judges of films: was the task fulfilled?

primary = StateJudge(load_probe("weights/manipulation-probe").judge, "manipulation")
second = load_judge("weights/manipulation-judge", "manipulation")      # a classifier's folder, or a plug-in's name
verdicts = primary.judge(frames_BTYXC, "push")
combine(verdicts, second.judge(frames_BTYXC, "push"))                  # success, failure or undecided

All of them read uint8 films (B, T, 64, 64, 3) whose first frame is the prompt.
"""

from genie_robot.evaluation.judges.classifier import ClassifierJudge, load_classifier, save_classifier
from genie_robot.evaluation.judges.plugins import load_judge
from genie_robot.evaluation.judges.protocol import Judge, Verdicts, combine
from genie_robot.evaluation.judges.state_judge import StateJudge

__all__ = [
    "ClassifierJudge",
    "Judge",
    "StateJudge",
    "Verdicts",
    "combine",
    "load_classifier",
    "load_judge",
    "save_classifier",
]
