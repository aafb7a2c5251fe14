"""Figures for papers: written without a browser, text kept as text."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from report_runs import write_run
from typer.testing import CliRunner

from openrlhf_ktae.cli import app
from openrlhf_ktae.report.bundle import key_share
from openrlhf_ktae.report.export import moving_average
from openrlhf_ktae.report.groups import read_groups
from openrlhf_ktae.report.run_folder import read_run
from openrlhf_ktae.report.token_figure import COLUMNS, NEGATIVE, POSITIVE, draw_map


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(
        tmp_path_factory.mktemp("export") / "run", steps=10, rollout_steps=(10,), groups=2, size=4, tokens=60
    )


def test_export_writes_every_plot_and_map_as_png_and_svg(run, tmp_path):
    result = CliRunner().invoke(app, ["report", str(run), "--export", str(tmp_path), "--group", "10:0"])
    assert result.exit_code == 0, result.output
    stems = {path.stem for path in tmp_path.glob("*.png")}
    assert stems == {path.stem for path in tmp_path.glob("*.svg")}
    assert {"reward", "kl", "entropy", "phases-0", "groups", "tokens-over-run", "map-step-10-group-0"} <= stems
    assert "evaluation-accuracy-arithmetic" in stems
    for path in tmp_path.glob("*.svg"):
        ElementTree.parse(path)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.glob("*.png"))


def test_exporting_a_group_that_was_not_written_names_the_steps(run, tmp_path):
    result = CliRunner().invoke(app, ["report", str(run), "--export", str(tmp_path), "--group", "7:0"])
    assert result.exit_code == 2
    assert "steps with rollouts: 10" in re.sub(r"[\s│]+", " ", result.output)


@pytest.mark.parametrize("text", ["7", "a:b", "7:", ":1", "-1:2"])
def test_malformed_group_is_refused(run, text):
    result = CliRunner().invoke(app, ["report", str(run), f"--group={text}"])
    assert result.exit_code == 2
    assert "STEP:GROUP" in result.output


def test_map_draws_every_character_in_its_cell_and_colours_by_sign(run):
    view = read_groups(run / "rollouts" / "step_00010.parquet", run / "rollouts" / "step_00010_tokens.parquet", [0])[0]
    axes = draw_map(view).axes[0]
    pieces = [t for t in axes.texts if t.get_fontfamily() == ["monospace"]]
    assert pieces and all(t.get_position()[0] + len(t.get_text()) <= COLUMNS for t in pieces)
    assert not any(t.get_parse_math() for t in axes.texts)
    written = "".join(t.get_text() for t in pieces)
    assert "<script>window.owned" in written.replace("·", " ")
    from matplotlib.colors import to_hex

    drawn = {to_hex(patch.get_facecolor()) for patch in axes.patches}
    assert drawn & set(POSITIVE) and drawn & set(NEGATIVE)


def test_a_key_token_is_the_same_in_metric_page_and_figure_at_any_scale(tmp_path):
    runs = [
        read_run(write_run(tmp_path / str(scale), steps=1, rollout_steps=(1,), groups=1, size=4, scale=scale))
        for scale in (1.0, 0.25)
    ]
    views = [read_groups(run.rollout_files[1], run.token_files[1], [0])[0] for run in runs]
    shares = [key_share(view, run.scale) for view, run in zip(views, runs, strict=True)]
    assert shares[0] == shares[1] > 0
    assert shares[1] == pytest.approx(runs[1].train[0]["ktae/key_token_frac"], abs=1e-3)
    coloured = [len(draw_map(view, run.scale).axes[0].patches) for view, run in zip(views, runs, strict=True)]
    assert coloured[0] == coloured[1] > 0


def test_moving_average_starts_at_the_first_value_and_keeps_gaps():
    averages = moving_average([2.0, None, 4.0], weight=0.5)
    assert averages[0] == 2.0
    assert averages[1] != averages[1]
    assert averages[2] == pytest.approx((0.5 * 0.5 * 2 + 0.5 * 4) / 0.75)


def test_help_names_the_options():
    output = CliRunner().invoke(app, ["report", "--help"], env={"COLUMNS": "120", "TERM": "dumb"}).output
    assert all(option in output for option in ("--watch", "--export", "--group", "--size-limit", "--output"))
