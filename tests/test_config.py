"""Recipes: overrides, and one clear sentence for everything that is wrong with one."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloforge.config import load_recipe, parse_recipe, recipe_names
from caloforge.detector.shipped import load_geometry
from caloforge.errors import CaloForgeError, ModelError, RecipeError
from caloforge.models import make_model
from caloforge.models.caloshowergan import ADAM_CRITIC, CaloShowerGANHyper
from caloforge.training.train import with_settings
from caloforge.transforms import fit_transform

SMOKE = "smoke-caloshowergan"


def sentence(error: pytest.ExceptionInfo[CaloForgeError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith((".", "?", ")", "]"))
    return text


def test_overrides_reach_every_table() -> None:
    recipe = load_recipe(
        SMOKE,
        [
            "training.batch_size=128",
            "training.selection.every=7",
            "training.augment=()",
            "training.precision=bf16-mixed",
            "model.latent=5",
            "model.generator=[3,4]",
            "model.output_batch_norm=false",
            "model.generator_optimiser.lr=2e-4",
            "transform.low_cut=1.5",
            "description=what = this",
        ],
    )
    assert recipe.training.batch_size == 128
    assert recipe.training.selection.every == 7
    assert recipe.training.selection.minimum == 5  # untouched
    assert recipe.training.augment == ()
    assert recipe.training.precision == "bf16-mixed"
    assert recipe.hyper()["latent"] == 5
    assert recipe.hyper()["generator"] == [3, 4]
    assert recipe.hyper()["output_batch_norm"] is False
    assert recipe.hyper()["generator_optimiser"] == {"lr": 2e-4}
    assert recipe.transform == {"name": "incident-fraction", "low_cut": 1.5}
    assert recipe.description == "what = this"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("training.batchsize=3", "did you mean 'batch_size'"),
        ("trainig.steps=3", "did you mean 'training'"),
        ("training.selection.evry=3", "did you mean 'every'"),
        ("training.steps=0", "training.steps"),
        ("training.steps=2.5", "training.steps"),
        ("training.steps=many", "training.steps"),
        ("training.steps=True", "training.steps"),
        ("training.batch_size=1", "training.batch_size"),
        ("training.seed=-1", "training.seed"),
        ("training.holdout=0", "training.holdout"),
        ("training.holdout=nan", "training.holdout"),
        ("training.ema=1", "training.ema"),
        ("training.gradient_clip=-1", "training.gradient_clip"),
        ("training.precision=8-bit", "training.precision"),
        ("training.augment=rotate", "training.augment"),
        ("training.selection=5", "training.selection"),
        ("training.selection.range_rms=(1,2,3)", "range_rms"),
        ("training.steps.more=5", "'steps' is a value, not a table"),
        ("training.steps", "expected key=value"),
        ("=5", "Unknown recipe key"),
        ("model=5", "model"),
        ("model.name=5", "[model] has no name"),
        ("transform.name=[]", "[transform] has no name"),
        ("name={[]: 1}", "name"),
        ("name=" + "(" * 5000, "name"),
    ],
)
def test_a_wrong_override_is_named(override: str, named: str) -> None:
    if override.startswith("name=("):  # too deep for Python's own parser: taken as text
        assert load_recipe(SMOKE, [override]).name.startswith("(((")
        return
    if override.startswith("name={"):
        assert load_recipe(SMOKE, [override]).name == "{[]: 1}"
        return
    with pytest.raises(RecipeError) as error:
        load_recipe(SMOKE, [override])
    assert named in sentence(error)


@given(st.text(max_size=40))
def test_any_override_is_taken_or_answered_with_a_sentence(text: str) -> None:
    try:
        load_recipe(SMOKE, [text])
    except RecipeError as error:
        assert str(error)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["steps", "name", "x", "every"]), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    st.sampled_from(["name", "model", "transform", "training", "geometry", "other"]),
)
def test_any_value_anywhere_is_taken_or_answered_with_a_sentence(value: object, key: str) -> None:
    plain = load_recipe(SMOKE).model_dump()
    plain[key] = value
    try:
        recipe = parse_recipe(plain)
    except RecipeError as error:
        assert str(error)
    else:
        assert recipe.training.steps >= 1


def test_16_bit_floats_are_refused_with_a_reason() -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(SMOKE, ["training.precision=16-mixed"])
    assert "losses are not scaled" in sentence(error)
    assert "bf16-mixed" in sentence(error)


def test_unknown_and_broken_recipes() -> None:
    with pytest.raises(RecipeError, match="did you mean 'caloshowergan-photon'"):
        load_recipe("caloshowergan-foton")
    with pytest.raises(RecipeError, match="Cannot read the recipe"):
        load_recipe("nowhere/nothing.toml")


@pytest.mark.parametrize(
    "content",
    [b"name = ", b"\xff\xfe\x00", b"[model]\nname='x'\n", b"", b"name = 'a'\nname = 'b'\n"],
)
def test_a_broken_recipe_file_gets_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert str(error.value)


def test_a_directory_is_no_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "recipe.toml"
    folder.mkdir()
    with pytest.raises(RecipeError, match="Cannot read the recipe"):
        load_recipe(folder)


def test_settings_from_the_command_line_are_checked_too() -> None:
    recipe = load_recipe(SMOKE)
    changed = with_settings(recipe, steps=7, seed=None)
    assert (changed.training.steps, changed.training.seed) == (7, recipe.training.seed)
    assert with_settings(recipe) == recipe
    for wrong in ({"steps": 0}, {"steps": -4}, {"seed": -1}, {"seed": 2**64}, {"step": 3}):
        with pytest.raises(RecipeError) as error:
            with_settings(recipe, **wrong)
        assert f"training.{next(iter(wrong))}" in sentence(error)


@pytest.mark.parametrize(
    ("model", "hyper", "named"),
    [
        ("caloshowergan", {"latnt": 3}, "did you mean 'latent'"),
        ("caloshowergan", {"geometry": 3}, "Unknown hyper-parameter 'geometry'"),
        ("caloshowergan", {"latent": "abc"}, "'latent'"),
        ("caloshowergan", {"latent": 0}, "'latent'"),
        ("caloshowergan", {"latent": 2.5}, "'latent'"),
        ("caloshowergan", {"generator": 5}, "'generator'"),
        ("caloshowergan", {"generator": [10, -1]}, "'generator'"),
        ("caloshowergan", {"critic": []}, "'critic'"),
        ("caloshowergan", {"critic_steps": 0}, "'critic_steps'"),
        ("caloshowergan", {"penalty": -1.0}, "'penalty'"),
        ("caloshowergan", {"activation": "swich"}, "did you mean 'swish'"),
        ("caloshowergan", {"generator_init": "glorot"}, "did you mean 'glorot-normal'"),
        ("caloshowergan", {"label_range": [5.0]}, "label_range"),
        ("caloshowergan", {"label_range": [5.0, 5.0]}, "label_range"),
        ("caloshowergan", {"generator_optimiser": {"lrate": 1}}, "did you mean"),
        ("caloshowergan", {"generator_optimiser": {"lr": -1.0}}, "'lr'"),
        ("caloshowergan", {"generator_optimiser": {"lr": "fast"}}, "'lr'"),
        ("caloshowergan", {"generator_optimiser": {"betas": [0.5]}}, "'betas'"),
        ("caloshowergan", {"generator_optimiser": {"betas": [0.5, 1.5]}}, "'betas'"),
        (
            "caloshowergan",
            {"generator_optimiser": {"schedule": "cosine"}},
            "'constant', 'cyclic' or 'inverse'",
        ),
        ("caloshowergan-split", {"edges": []}, "increasing energies"),
        ("caloshowergan-split", {"edges": [5e3, 4e3]}, "increasing energies"),
        ("caloshowergan-split", {"edges": [1.0]}, "increasing energies"),
        ("caloshowergan-split", {"edges": 4096.0}, "'edges'"),
        ("caloshowergan-split", {}, "edges"),
        ("caloshowergan-split", {"edges": [4096.0], "low": {"latnt": 1}}, "did you mean 'latent'"),
        ("flow-matching", {"ode_steps": 0}, "'ode_steps'"),
        ("flow-matching", {"hidden": -3}, "'hidden'"),
        ("flowmatching", {}, "did you mean 'flow-matching'"),
    ],
)
def test_a_wrong_hyper_parameter_is_named(model: str, hyper: dict, named: str) -> None:
    with pytest.raises(ModelError) as error:
        make_model(model, load_geometry("ds1-photons"), None, **hyper)
    assert named in sentence(error)


def test_hyper_parameters_are_frozen_and_hold_what_was_given() -> None:
    settings = {"generator": [3, 4], "penalty": 2, "critic_optimiser": {"lr": 0.1}}
    hyper = CaloShowerGANHyper.of(settings)
    assert hyper.generator == (3, 4)
    plain = hyper.to_dict()
    assert {key: plain[key] for key in settings} == settings
    assert CaloShowerGANHyper.of(plain) == hyper
    with pytest.raises(FrozenInstanceError):
        hyper.latent = 3  # type: ignore[misc]
    # Tables of defaults are not shared.
    first, second = CaloShowerGANHyper(), CaloShowerGANHyper()
    first.critic_optimiser["lr"] = 7.0
    assert second.critic_optimiser["lr"] != 7.0
    assert ADAM_CRITIC["lr"] != 7.0
    # Without a recipe too a value of another type is refused.
    with pytest.raises(ModelError, match="'latent' is wrong"):
        CaloShowerGANHyper(latent="three")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("incident-fractions", {}, "did you mean 'incident-fraction'"),
        ("incident-fraction", {"lowcut": 1.0}, "lowcut"),
        ("incident-fraction", {"low_cut": "one"}, "low_cut"),
        ("incident-fraction", {"low_cut": -1.0}, "low_cut"),
        ("layer-logs", {"floor": "low"}, "floor"),
        ("layer-logs", {"floor": -2.0}, "floor"),
    ],
)
def test_a_wrong_transform_is_named(photons, name: str, settings: dict, named: str) -> None:
    with pytest.raises(ModelError) as error:
        fit_transform(name, photons[:200], **settings)
    assert named in sentence(error)


def test_a_name_of_a_shipped_recipe_wins_over_nothing_else() -> None:
    assert SMOKE in recipe_names()
    assert recipe_names() == sorted(recipe_names())
