"""Learning rate schedule and the split between optimizers."""

from __future__ import annotations

from genie_robot.config import StageConfig
from genie_robot.training.muon import Muon
from genie_robot.training.optim import build_optimizers, rate_factor, set_rate
from tests.invariants.conftest import make_model


def test_the_rate_warms_up_stays_and_decays() -> None:
    config = StageConfig(steps=100, warmup_steps=10, decay_share=0.4, min_learning_rate_ratio=0.1)
    factors = [rate_factor(step, config) for step in range(101)]
    assert factors[0] == 0.1 and factors[9] == 1.0
    assert set(factors[10:61]) == {1.0}
    assert factors[60:] == sorted(factors[60:], reverse=True)
    assert abs(factors[100] - 0.1) < 1e-9


def test_every_parameter_has_one_optimizer_and_muon_gets_the_block_matrices() -> None:
    model = make_model("tiny").dynamics
    adam, muon = build_optimizers(model, StageConfig(optimizer="muon"))
    assert isinstance(muon, Muon)
    ids = [id(p) for optimizer in (adam, muon) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    names = {id(p): name for name, p in model.named_parameters()}
    chosen = [names[id(p)] for group in muon.param_groups for p in group["params"]]
    assert chosen and all("blocks" in name for name in chosen)
    config = StageConfig(optimizer="muon", warmup_steps=4)
    assert set_rate([adam, muon], 0, config) == config.learning_rate / 4
    assert muon.param_groups[0]["lr"] == config.muon_learning_rate / 4
