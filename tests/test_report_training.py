"""The page of a training: the kept generator is marked, ranges are told apart."""

import json

import pytest

from caloforge.errors import DataError
from caloforge.report.training import training_section, write_training_page


def write_run(folder, scores, kept):
    folder.mkdir(parents=True, exist_ok=True)
    history = [
        {
            "step": 10 * (k + 1),
            "chi2_ndf": score,
            "kept": k in kept,
            "per_energy": {"256": 2.0} if score is not None else {},
        }
        for k, score in enumerate(scores)
    ]
    (folder / "selection.json").write_text(json.dumps(history))
    losses = [{"step": s, "loss/critic": -1.0, "steps_per_second": 2.0} for s in (10, 20)]
    lines = [*map(json.dumps, losses), '{"step": 2']
    (folder / "log.jsonl").write_text("\n".join(lines))


def curve(picture):
    return picture.figure.axes[0].get_lines()


def test_kept_is_marked_even_when_it_is_not_the_lowest(tmp_path):
    write_run(tmp_path, [3.0, 1.5, 2.0], kept={0, 2})
    section = training_section(tmp_path)
    assert [p.name for p in section.pictures] == ["chi2-history", "losses"]
    history, marked = curve(section.pictures[0])[:2]
    assert list(history.get_ydata()) == [3.0, 1.5, 2.0]
    assert list(marked.get_xdata()) == [30]
    assert "lowest 1.5 at iteration 20, kept iteration 30" in section.pictures[0].caption


def test_ranges_without_a_score_show_their_losses(tmp_path):
    write_run(tmp_path / "range0", [2.0], kept={0})
    write_run(tmp_path / "range1", [None], kept={0})
    names = [p.name for p in training_section(tmp_path).pictures]
    assert names == ["chi2-history-range0", "losses-range0", "losses-range1"]


def test_a_fit_has_a_table_and_no_curves(tmp_path):
    """It is logged once: a point on an axis of its own, under the title of a GAN, says nothing."""
    write_run(tmp_path, [1.05], kept={0})
    line = {"step": 1, "copula/variance": 1.03, "steps_per_second": 0.03}
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n")
    section = training_section(tmp_path)
    assert section.title == "What was found" and not section.pictures
    found = {row[0].text: row[1].text for table in section.tables for row in table.rows}
    assert found == {
        "χ²/NDF of the total energy, all energies": "1.05",
        "at 256 MeV": "2",
        "copula: variance": "1.03",
    }


def test_only_a_gan_has_words_on_balance(tmp_path):
    write_run(tmp_path, [2.0, 1.0], kept={1})
    assert "losses of a GAN" in training_section(tmp_path).pictures[1].caption
    lines = [{"step": s, "loss/flow": -1.0, "steps_per_second": 2.0} for s in (10, 20)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "GAN" not in training_section(tmp_path).pictures[1].caption


def test_page_shows_the_recipe(tmp_path):
    write_run(tmp_path, [2.0, 1.0], kept={1})
    (tmp_path / "recipe.toml").write_text('name = "mine"\n')
    text = write_training_page(tmp_path).read_text(encoding="utf-8")
    assert "Training of mine" in text and "name = &#34;mine&#34;" in text


def test_gradients_prd_auc_and_stagnation_are_shown(tmp_path):
    write_run(tmp_path, [2.0, 1.0], kept={1})
    history = json.loads((tmp_path / "selection.json").read_text())
    for entry, value in zip(history, (0.5, 0.75), strict=True):
        entry |= {"prd_auc_raw": value, "prd_auc_physics": value / 2}
    (tmp_path / "selection.json").write_text(json.dumps(history))
    line = {"loss/critic": 1.0, "gradient/critic": 4.0, "steps_per_second": 2.0}
    rows = [{"step": 10, **line}, {"step": 20, **line, "gradient/critic": 1e-6, "stagnation": 1.0}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    section = training_section(tmp_path)
    pictures = {p.name: p for p in section.pictures}
    assert list(pictures) == ["chi2-history", "prd-history", "losses", "gradients"]
    assert list(curve(pictures["prd-history"])[0].get_ydata()) == [0.5, 0.75]
    assert list(curve(pictures["gradients"])[0].get_ydata()) == [4.0, 1e-6]
    shown = [ax.get_title("left") for ax in pictures["losses"].figure.axes if ax.get_visible()]
    assert shown == ["loss: critic"]
    assert "nothing was learnt any more at 1 logged iterations from 20 on" in section.text


@pytest.mark.parametrize("content", [None, "{", "[1]", '[{"step": 1}]'])
def test_a_folder_that_is_no_run_gets_a_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "selection.json").write_text(content)
    with pytest.raises(DataError, match=r"selection\.json"):
        training_section(tmp_path)
