"""The files in configs/: every combination composes, builds, and has the size that its comments state."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch

from genie_robot.cli._compose import CONFIGS, choices, compose
from genie_robot.cli.train import HELP
from genie_robot.config import TrainConfig, WorldModelConfig
from genie_robot.errors import ConfigError
from genie_robot.models.world_model import WorldModel

GROUPS = ("stage", "data", "model", "tokenizer", "recipe", "hardware")

#: preset -> millions of parameters of tokenizer, latent action model and dynamics: least and most
SIZES: dict[str, dict[str, tuple[float, float]]] = {
    "tiny": {"tokenizer": (1, 1.2), "latent_action": (0.9, 1.1), "dynamics": (1.2, 1.4)},
    "manipulation": {"tokenizer": (1, 1.2), "latent_action": (0.9, 1.1), "dynamics": (1.5, 2.2)},
    "small": {"tokenizer": (4, 6), "latent_action": (2, 3), "dynamics": (24, 28)},
    "base": {"tokenizer": (50, 60), "latent_action": (30, 40), "dynamics": (200, 220)},
    "coinrun": {"tokenizer": (33, 35), "latent_action": (34, 36), "dynamics": (26, 27)},
    "robotics_2_5b": {"tokenizer": (190, 200), "latent_action": (330, 345), "dynamics": (1950, 2050)},
    "platformers_11b": {"tokenizer": (190, 200), "latent_action": (330, 345), "dynamics": (9900, 10200)},
}


def counts(config: WorldModelConfig) -> dict[str, float]:
    """Millions of parameters by part."""
    with torch.device("meta"):
        model = WorldModel(config)
    return {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.named_children()}


def test_every_preset_is_checked() -> None:
    assert set(SIZES) == set(choices("model"))


@pytest.mark.parametrize("model", choices("model"))
def test_size_is_the_one_stated(model: str) -> None:
    found = counts(compose([f"model={model}"]).model)
    for part, (least, most) in SIZES[model].items():
        assert least < found[part] < most, (part, found[part])
    stated = (
        f"# Parameters: {sum(found.values()):,.1f} M = tokenizer {found['tokenizer']:,.1f} + "
        f"latent action {found['latent_action']:,.1f} + dynamics {found['dynamics']:,.1f}\n"
    )
    assert stated in (CONFIGS / "model" / f"{model}.yaml").read_text()


@pytest.mark.parametrize("model", choices("model"))
def test_every_combination_composes_and_builds(model: str) -> None:
    seen: set[WorldModelConfig] = set()
    for recipe, tokenizer in product(choices("recipe"), choices("tokenizer")):
        config = compose([f"model={model}", f"recipe={recipe}", f"tokenizer={tokenizer}"])
        assert config.model.name == model
        if config.model not in seen:
            assert counts(config.model)["dynamics"] > SIZES[model]["dynamics"][0] * 0.99
        seen.add(config.model)
    assert len(seen) >= 2 * len(choices("tokenizer")) - 2  # recipes and tokenizers do change the model


@pytest.mark.parametrize("model", choices("model"))
def test_recipe_wins_over_the_model(model: str) -> None:
    paper = compose([f"model={model}", "recipe=paper"])
    assert (paper.model.dynamics.history, paper.model.dynamics.action_mode) == ("masked", "add")
    assert paper.model.dynamics.changed_token_weight == 1 and paper.model.dynamics.full_mask_probability == 0
    assert paper.training.co_training == "parallel"
    for stage, rate, warmup in (("tokenizer", 3e-4, 10_000), ("dynamics", 3e-5, 5_000)):
        trained = getattr(paper.training, stage)
        assert (trained.optimizer, trained.betas, trained.weight_decay) == ("adamw", (0.9, 0.9), 1e-4)
        assert (trained.learning_rate, trained.warmup_steps) == (rate, warmup)
    modern = compose([f"model={model}", "recipe=modern"])
    assert (modern.model.dynamics.history, modern.model.dynamics.action_mode) == ("clean", "prepend")
    assert (modern.training.dynamics.optimizer, modern.training.dynamics.ema_decay) == ("muon", 0.999)
    plain = compose([f"model={model}"]).training
    assert modern.training.dynamics.steps == paper.training.dynamics.steps == plain.dynamics.steps


@pytest.mark.parametrize("model", choices("model"))
def test_tokenizer_changes_the_tokenizer_alone(model: str) -> None:
    plain = compose([f"model={model}"])
    for name in choices("tokenizer"):
        other = compose([f"model={model}", f"tokenizer={name}"])
        assert replace(other, model=replace(other.model, tokenizer=plain.model.tokenizer)) == plain
        if other == plain:
            assert name in {"preset", "st_vivit"}  # what some models have already


def test_tokenizers_are_what_they_are_called() -> None:
    kinds = {
        name: compose(["model=small", f"tokenizer={name}"]).model.tokenizer for name in choices("tokenizer")
    }
    for name, attention in (("st_vivit", "space_time"), ("vit", "space"), ("c_vivit", "full")):
        assert (
            kinds[name].encoder_transformer.attention
            == kinds[name].decoder_transformer.attention
            == attention
        )
    assert (kinds["magvit2"].encoder, kinds["magvit2"].quantizer) == ("causal_conv", "lfq")


def test_hardware_presets() -> None:
    configs = {name: compose([f"hardware={name}"]).hardware for name in choices("hardware")}
    assert configs["cpu"].device == "cpu" and configs["auto"].device == "auto"
    assert configs["gpu"].compile and configs["gpu"].precision == "bf16"
    assert configs["gpus"].shard == 0
    low = compose(["model=robotics_2_5b", "hardware=low_memory"]).hardware
    assert (low.recompute, low.micro_batch_size) == ("full", 1)


def test_tiny_is_the_recipe_of_the_stored_weights() -> None:
    import yaml

    from genie_robot.config import from_dict

    stored = yaml.safe_load((CONFIGS.parent / "weights" / "tabletop-tiny" / "config.yaml").read_text())
    assert compose(["model=tiny"]).model == from_dict(WorldModelConfig, stored)
    assert compose() == compose(["model=tiny", "tokenizer=preset", "recipe=preset", "hardware=auto"])


@pytest.mark.parametrize("group", GROUPS)
def test_every_file_says_what_it_is_and_help_names_it(group: str) -> None:
    line = HELP.split(f"\n  {group}=")[1].split("=")[0]
    for name in choices(group):
        assert name in line
        comments = [
            row for row in (CONFIGS / group / f"{name}.yaml").read_text().splitlines() if row.startswith("# ")
        ]
        assert [row for row in comments if "@package" not in row] or group == "stage", name


@pytest.mark.parametrize("model", choices("model"))
def test_model_files_open_with_source_time_result_and_command(model: str) -> None:
    text = (CONFIGS / "model" / f"{model}.yaml").read_text().split("\nmodel:")[0]
    for word in ("Parameters: ", "Time: ", "Result: ", "Command: "):
        assert f"# {word}" in text
    assert "arXiv" in text or "# Source: ours" in text


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model=huge", "model: got 'huge', wanted one of base, coinrun"),
        ("tokenizer=vq", "tokenizer: got 'vq', wanted one of c_vivit"),
        ("training.dynamics.stepz=3", "training.dynamics: unknown field 'stepz', known are steps, "),
        ("tokenizers=vit", "unknown field 'tokenizers'"),
        ("training.dynamics.steps=many", "training.dynamics.steps: got 'many', wanted int"),
        ("model.tokenizer.quantizer=gumbel", "quantizer: got 'gumbel', wanted one of vq, fsq, lfq"),
        ("hardware.recompute=some", "recompute: got 'some', wanted one of none, selective, full"),
        ("model.tokenizer=3", "model.tokenizer: got 3, wanted a group of fields"),
        ("a b", "a b"),
    ],
)
def test_a_mistake_is_one_line_with_what_is_allowed(word: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([word])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fields_of_every_file_are_fields_of_the_configuration() -> None:
    for group in ("stage", "data", "hardware"):
        for name in choices(group):
            assert isinstance(compose([f"{group}={name}"]), TrainConfig)
