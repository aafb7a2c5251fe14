"""Views of the report: plain data from runs."""

import base64
import gzip
import json
import math
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ktae_oracle import fisher_p, information_gain, oracle_values
from report_runs import HOSTILE, write_run

from openrlhf_ktae.advantage import KtaeConfig
from openrlhf_ktae.intervals import wilson_interval
from openrlhf_ktae.report import bundle, overview, write_report
from openrlhf_ktae.report.bundle import pack, select_groups
from openrlhf_ktae.report.curves import cohort_series, curve_panels
from openrlhf_ktae.report.groups import list_groups, read_groups, texts
from openrlhf_ktae.report.health import check_health
from openrlhf_ktae.report.overview import group_shares, shown_steps, token_histories, top_run_tokens
from openrlhf_ktae.report.page import write_page
from openrlhf_ktae.report.run_folder import read_run
from openrlhf_ktae.report.seed_groups import find_cohorts, run_labels
from openrlhf_ktae.run_folder import VOCABULARY_FILE, read_vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_run(
        tmp_path_factory.mktemp("views") / "run", steps=20, rollout_steps=(10, 20), groups=3, size=6, tokens=60
    )


def unpack(page: str, name: str):
    found = re.search(rf'id="{name}">([^<]*)</script>', page)
    assert found is not None
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def write_seed(tmp_path: Path, seed: int, **kwargs) -> Path:
    return write_run(tmp_path / f"seed-{seed}", steps=6, rollout_steps=(), seed=seed, **kwargs)


def test_group_view_holds_the_oracles_numbers(folder):
    step, group = 20, 1
    rows = [
        row for row in pq.read_table(folder / "rollouts" / "step_00020.parquet").to_pylist() if row["group"] == group
    ]
    view = read_groups(
        folder / "rollouts" / "step_00020.parquet", folder / "rollouts" / "step_00020_tokens.parquet", [group]
    )[group]
    longest = max(len(row["token_ids"]) for row in rows)
    ids = [row["token_ids"] + [0] * (longest - len(row["token_ids"])) for row in rows]
    mask = [[True] * len(row["token_ids"]) + [False] * (longest - len(row["token_ids"])) for row in rows]
    expected = oracle_values(
        ids, mask, [row["correct"] for row in rows], [group] * len(rows), KtaeConfig(ignore_token_ids=(0,))
    )
    by_rollout = {row["rollout"]: values for row, values in zip(rows, expected, strict=True)}
    assert view["has_statistics"] and step == rows[0]["step"]
    for rollout in view["rollouts"]:
        assert "values" not in rollout
        shown = [view["statistics"]["value"][t] for t in rollout["tokens"]]
        assert shown == pytest.approx(by_rollout[rollout["rollout"]][: len(shown)], abs=2e-6)
        assert "".join(view["vocabulary"][t] for t in rollout["tokens"]).startswith(
            rows[rollout["rollout"]]["response"]
        )


def test_counts_without_statistics_equal_those_with(folder):
    file = folder / "rollouts" / "step_00020.parquet"
    given = read_groups(file, folder / "rollouts" / "step_00020_tokens.parquet", [0])[0]
    counted = read_groups(file, None, [0])[0]
    for name in ("a", "b", "c", "d", "m_c", "m_w"):
        assert counted["statistics"][name] == given["statistics"][name]
    assert set(counted["statistics"]["fisher_p"]) == {None}
    assert counted["statistics"]["value"] == pytest.approx(given["statistics"]["value"], abs=1e-6)


def test_statistics_of_a_token_follow_from_its_counts(folder):
    view = read_groups(
        folder / "rollouts" / "step_00020.parquet", folder / "rollouts" / "step_00020_tokens.parquet", [2]
    )[2]
    s = view["statistics"]
    for i in range(len(view["vocabulary"])):
        a, b, c, d = (s[name][i] for name in "abcd")
        assert s["fisher_p"][i] == pytest.approx(float(fisher_p(a + c, b + d, a, b)), rel=1e-5)
        assert s["information_gain_bits"][i] == pytest.approx(information_gain(a + c, b + d, a, b), abs=1e-5)


def test_rollouts_stand_correct_ones_first(folder):
    view = read_groups(folder / "rollouts" / "step_00010.parquet", None, [1])[1]
    verdicts = [rollout["correct"] for rollout in view["rollouts"]]
    assert verdicts == sorted(verdicts, reverse=True)
    assert len(set(verdicts)) == 2


def test_special_tokens_are_marked_and_model_text_is_not(folder):
    view = read_groups(folder / "rollouts" / "step_00010.parquet", None, [0])[0]
    assert [view["vocabulary"][i] for i in view["special"]] == ["<|im_end|>"]


def test_hostile_text_never_stands_in_the_page_as_markup(folder):
    page = write_report([folder]).read_text(encoding="utf-8")
    assert "window.owned" not in page and "onerror" not in page
    texts = [unpack(page, f"data-group-{i}") for i in range(6)]
    assert any(HOSTILE in "".join(t["vocabulary"][i] for i in t["rollouts"][0]["tokens"]) for t in texts)


def test_names_from_run_files_are_escaped(tmp_path):
    run = write_run(tmp_path / "run", name="<script>alert(1)</script>", steps=3, rollout_steps=())
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "eval", "step": 3, "<img src=x>/pass@1": 0.5, "<img src=x>/n": 4}) + "\n")
    page = write_report([run]).read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<img" not in page.split('id="data-curves"')[0]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_policy_allows_no_network_and_no_foreign_script(folder):
    page = write_report([folder]).read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    text = policy[1].replace("&#39;", "'")
    assert text.startswith("default-src 'none'") and "http" not in text and "unsafe-eval" not in text
    assert "unsafe-inline" not in text.split("script-src")[1].split(";")[0]
    assert not re.search(r'(?:src|href)="(?!#|data:,)', page)


def test_packed_data_cannot_end_its_element():
    assert "<" not in pack(["</script>", "\ud800"])


def test_maps_fill_what_the_size_limit_leaves(tmp_path):
    run = write_run(tmp_path / "run", steps=20, rollout_steps=range(1, 21), groups=12, size=8, tokens=300)
    limit = 2_400_000
    small = write_page([run], tmp_path / "small.html", size_limit=limit)
    full = write_page([run], tmp_path / "full.html")
    assert small.stat().st_size <= limit < full.stat().st_size <= 5_000_000
    places = unpack(small.read_text(encoding="utf-8"), "data-index")["groups"]
    assert 1 < len(places) < 240
    assert {1, 20} <= {place["step"] for place in places}
    assert f"This page holds {len(places)} of the 240 groups" in small.read_text(encoding="utf-8")


def test_a_wanted_group_is_embedded_whatever_its_size(folder):
    runs = [read_run(folder)]
    assert select_groups(runs, 0).groups == []
    chosen = select_groups(runs, 0, [(10, 2)]).groups
    assert [(g.summary.step, g.summary.group) for g in chosen] == [(10, 2)]


def test_mixed_groups_are_the_more_interesting_ones(folder):
    summaries = list_groups(10, folder / "rollouts" / "step_00010.parquet")
    assert all(s.size == 6 and 0 < s.correct < 6 for s in summaries)
    best = min(summaries, key=lambda s: s.interest)
    assert abs(best.correct - 3) == min(abs(s.correct - 3) for s in summaries)


def test_seeds_of_one_recipe_become_one_band(tmp_path):
    runs = [read_run(write_seed(tmp_path, seed)) for seed in (0, 1, 2)]
    cohorts = find_cohorts(runs)
    assert [c.members for c in cohorts] == [(0, 1, 2)]
    series = cohort_series(runs, cohorts[0], ("reward",))
    assert series is not None and len(series["seeds"]) == 3
    for i in range(6):
        values = [run.train[i]["reward"] for run in runs]
        assert series["low"][i] == pytest.approx(min(values), rel=1e-4)
        assert series["high"][i] == pytest.approx(max(values), rel=1e-4)
        assert series["y"][i] == pytest.approx(sum(values) / 3, rel=1e-4)


def test_runs_with_different_options_stay_apart_and_keep_distinct_names(tmp_path):
    runs = [read_run(write_seed(tmp_path, 0)), read_run(write_seed(tmp_path, 1, scale=0.5))]
    assert [c.members for c in find_cohorts(runs)] == [(0,), (1,)]
    assert len(set(run_labels(runs))) == 2
    folders = [write_seed(tmp_path / "losses", seed) for seed in (0, 1)]
    relabel(folders[1], policy_loss={"name": "./my_loss.py"})
    assert [c.members for c in find_cohorts([read_run(folder) for folder in folders])] == [(0,), (1,)]


def relabel(run: Path, **changes) -> None:
    info = json.loads((run / "run.json").read_text())
    for section, options in changes.items():
        info["config"].setdefault(section, {}).update(options)
    (run / "run.json").write_text(json.dumps(info))


def test_runs_are_named_by_what_differs_between_them(tmp_path):
    folders = [write_seed(tmp_path, 0), write_run(tmp_path / "off", steps=3, rollout_steps=(), scale=0.0)]
    relabel(folders[0], openrlhf={"ckpt.save_steps": 10, "ckpt.path": "/a/checkpoints"})
    runs = [read_run(folder) for folder in folders]
    assert run_labels(runs) == ["arithmetic-grpo-ktae, ktae.scale=1", "arithmetic-grpo-ktae, ktae.scale=0"]
    assert [cohort.label for cohort in find_cohorts(runs)] == run_labels(runs)


def test_runs_that_differ_only_in_bookkeeping_are_named_by_that_and_equal_ones_by_their_folders(tmp_path):
    folders = [write_run(tmp_path / name, steps=3, rollout_steps=()) for name in ("a", "b", "c")]
    relabel(folders[2], openrlhf={"ckpt.save_steps": 10})
    name = "arithmetic-grpo-ktae"
    assert run_labels([read_run(folder) for folder in folders]) == [
        f"{name}, ckpt.save_steps=default (a)", f"{name}, ckpt.save_steps=default (b)", f"{name}, ckpt.save_steps=10"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seeds", "words"),
    [((0, 1, 2), "3 seeds"), ((42, 42), "2 runs of seed 42"), ((1, 1, 2), "3 runs of 2 seeds")],
)
def test_repeats_of_a_seed_are_not_called_seeds(tmp_path, seeds, words):
    runs = [
        read_run(write_run(tmp_path / str(i), steps=3, rollout_steps=(), seed=seed)) for i, seed in enumerate(seeds)
    ]
    assert [cohort.label for cohort in find_cohorts(runs)] == [f"arithmetic-grpo-ktae ({words})"]


def test_the_evaluation_plot_is_named_by_the_metric_that_is_there(tmp_path, folder):
    run = read_run(folder)
    assert curve_panels([run], find_cohorts([run]))[0]["unit"] == "pass@1 and pass@4"
    for row in run.evaluations:
        del row["arithmetic/pass@4"]
    assert curve_panels([run], find_cohorts([run]))[0]["unit"] == "pass@1"


def test_a_group_that_no_run_wrote_is_refused_for_the_page_too(folder):
    with pytest.raises(ValueError, match="--group 7:0: no run wrote it; steps with rollouts: 10, 20"):
        write_page([folder], groups=[(10, 0), (7, 0)])


def test_wilson_interval_matches_the_textbook():
    low, high = wilson_interval(0.5, 100)
    assert (low, high) == pytest.approx((0.40383, 0.59617), abs=1e-5)
    assert wilson_interval(0.0, 10) == pytest.approx((0.0, 0.27753), abs=1e-5)
    assert wilson_interval(1.0, 10) == pytest.approx((0.72247, 1.0), abs=1e-5)
    assert wilson_interval(0.5, 0) == (0.0, 1.0)


def test_every_logged_metric_is_on_a_plot(folder):
    run = read_run(folder)
    panels = curve_panels([run], find_cohorts([run]))
    titles = {panel["title"] for panel in panels}
    assert "rollout/reward_std" in titles  # not named by a panel of its own
    assert {"Policy entropy", "KL divergence", "Gradient norm", "Clip fraction", "Seconds by phase"} <= titles
    lines = next(panel for panel in panels if panel["key"] == "length")["lines"]
    assert [line["label"] for line in lines] == ["all", "correct", "wrong"]


def test_phases_do_not_count_the_key_tokens_twice(folder):
    run = read_run(folder)
    lines = next(p for p in curve_panels([run], find_cohorts([run])) if p["kind"] == "stack")["lines"]
    total = sum(line["y"][0] for line in lines)
    row = run.train[0]
    expected = sum(row[f"timing/{phase}"] for phase in ("generation", "make_experience", "ppo_train", "broadcast"))
    assert total == pytest.approx(expected, rel=1e-4)


def test_group_shares_add_up_to_one(folder):
    shares = group_shares(read_run(folder))
    assert shares is not None
    for parts in zip(shares["all_correct"], shares["mixed"], shares["all_wrong"], strict=True):
        assert sum(parts) == pytest.approx(1.0, abs=1e-4)


def test_top_tokens_of_the_run_are_those_with_the_highest_mean_value(folder):
    run = read_run(folder)
    texts = read_vocabulary(folder / "rollouts" / VOCABULARY_FILE)
    values: dict[str, list[float]] = {}
    for file in run.token_files.values():
        for row in pq.read_table(file).to_pylist():
            values.setdefault(texts[row["token_id"]], []).append(row["value"])
    positive, negative = top_run_tokens(token_histories(run))
    counts = Counter({token: len(list_) for token, list_ in values.items()})
    kept = {t: sum(v) / len(v) for t, v in values.items() if counts[t] >= 3}
    assert positive[0]["mean"] == pytest.approx(max(kept.values()), abs=1e-4)
    assert negative[0]["mean"] == pytest.approx(min(kept.values()), abs=1e-4)
    assert all(row["mean"] > 0 for row in positive) and all(row["mean"] < 0 for row in negative)


HEALTHY = "fine"
PROBLEMS = [
    ({"rollout/reward_mean": 0.3}, "Training reward is flat", 0.3),
    ({"entropy_loss": 0.001}, "Entropy has collapsed", None),
    ({"rollout/truncated_rate": 0.6}, "Responses hit the length limit", None),
    ({"kl": 2.5}, "KL is running away", None),
    ({"reward/timed_out_frac": 0.05}, "Rewards timed out", None),
    ({"ktae/saturated_frac": 0.7}, "Key-token values are saturated", None),
    ({"weights/vllm_logprob_diff_mean": 0.8}, "Weights may not have reached vLLM", None),
    ({"actor_grad_norm": math.nan}, "The gradient was not a number", None),
    ({"ppo_clip_ratio": 0.5}, "Many tokens are clipped", None),
    ({"reward/formatted_frac": 0.2}, "Answers are missing or unreadable", None),
    ({"rollout/groups_all_wrong_frac": 0.95}, "Most groups carry no signal", None),
    ({"ktae/value_mean_correct": -0.2}, "Key-token values do not separate right from wrong", None),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "title", "whole_run"), PROBLEMS, ids=[title for _, title, _ in PROBLEMS])
def test_health_names_the_fault_and_only_then(tmp_path, overrides, title, whole_run):
    healthy = read_run(write_run(tmp_path / "healthy", steps=24, rollout_steps=()))
    assert title not in {f.title for f in check_health(healthy)}
    run = read_run(write_run(tmp_path / "faulty", steps=24, rollout_steps=(), overrides=overrides))
    if whole_run is not None:
        for row in run.train:
            row["rollout/reward_mean"] = whole_run
    faults = [f for f in check_health(run) if f.level != HEALTHY]
    assert title in {f.title for f in faults}
    assert all(re.search(r"\d", f.detail) for f in faults)


@pytest.mark.parametrize(("accuracy", "level"), [(0.95, "fine"), (0.85, "problem")])
def test_little_entropy_and_signal_are_the_end_of_a_solved_task_and_not_a_fault(tmp_path, accuracy, level):
    overrides = {
        "rollout/accuracy": accuracy,
        "entropy_loss": 0.001,
        "rollout/groups_all_correct_frac": 0.95,
        "rollout/groups_all_wrong_frac": 0.0,
    }
    run = read_run(write_run(tmp_path / "run", steps=24, rollout_steps=(), overrides=overrides))
    found = {f.title: f.level for f in check_health(run)}
    solved = ("Entropy fell because the task is solved", "Most groups are all correct: the task is solved")
    titles = solved if level == "fine" else ("Entropy has collapsed", "Most groups carry no signal")
    assert [found[title] for title in titles] == [level, level]


def test_healthy_run_has_no_findings_but_fine_ones(folder):
    assert {f.level for f in check_health(read_run(folder))} == {"fine"}


@pytest.mark.parametrize(("status", "level"), [("failed", "problem"), ("interrupted", "watch")])
def test_run_that_did_not_end_by_itself_is_named_first_with_the_way_on(tmp_path, status, level):
    folder = write_run(tmp_path / "run", steps=4, rollout_steps=(), status=status)
    first = check_health(read_run(folder))[0]
    assert (first.level, "step is 4" in first.detail) == (level, True)
    assert "no checkpoint to go on from" in first.detail
    (folder / "checkpoints" / "_actor" / "global_step4").mkdir(parents=True)
    relabel(folder, openrlhf={"ckpt.path": str(folder / "checkpoints")})
    (folder / "checkpoints" / "_actor" / "latest").write_text("global_step4")
    first = check_health(read_run(folder))[0]
    assert f"openrlhf-ktae train arithmetic-cpu --resume {folder}" in first.detail


def test_a_short_run_is_not_said_to_have_more_steps_than_it_has(tmp_path):
    run = read_run(write_run(tmp_path / "run", steps=4, rollout_steps=()))
    details = " ".join(finding.detail for finding in check_health(run))
    assert "last 5" not in details and "all 4 steps" in details


def test_silent_run_is_named(tmp_path):
    run = read_run(write_run(tmp_path / "run", steps=4, rollout_steps=(), status="running"))
    assert check_health(run)[0].title == "The run has gone silent"


def test_only_groups_that_the_page_has_room_for_are_read(folder, monkeypatch):
    read = []
    monkeypatch.setattr(bundle, "read_groups", lambda *args: read.append(args[2]) or read_groups(*args))
    whole = select_groups([read_run(folder)], 10**9)
    assert len(read) == len(whole.groups) == whole.total == 6
    read.clear()
    room = max(len(group.packed) for group in whole.groups) + bundle.BYTES_AROUND_GROUP
    few = select_groups([read_run(folder)], room)
    assert len(few.groups) == 1 and few.groups[0].summary.step == 20 and few.total == 6
    assert len(read) <= 1 + bundle.TOO_LARGE_IN_A_ROW


def test_tokens_of_a_long_run_come_from_steps_spread_over_it_and_the_page_says_so(monkeypatch, tmp_path):
    folder = write_run(tmp_path, steps=6, rollout_steps=(1, 3, 4, 6), groups=1, size=4, tokens=40)
    run = read_run(folder)
    assert shown_steps(run) == [1, 3, 4, 6]
    monkeypatch.setattr(overview, "ROWS", 1)
    assert shown_steps(run) == [1, 6] and set(token_histories(run).by_step) == {1, 6}
    page = write_report([folder]).read_text()
    assert "those of 2 of 4 logged steps, evenly spread: 1, 6." in page


def test_a_run_folder_from_before_the_vocabulary_still_shows_texts(tmp_path):
    """Every rollout had its tokens' texts in a column ``tokens`` then."""
    run = write_run(tmp_path / "run", steps=2, rollout_steps=(2,), groups=1, size=4, tokens=20, hostile=False)
    vocabulary = run / "rollouts" / VOCABULARY_FILE
    known = read_vocabulary(vocabulary)
    vocabulary.unlink()
    file = run / "rollouts" / "step_00002.parquet"
    rows = pq.read_table(file).to_pylist()
    expected = {token: known[token] for row in rows for token in row["token_ids"]}
    assert any("vocabulary.parquet is missing" in sentence for sentence in read_run(run).missing)
    pq.write_table(
        pa.Table.from_pylist([row | {"tokens": [known[token] for token in row["token_ids"]]} for row in rows]), file
    )
    assert texts(vocabulary) == expected and not any("vocabulary" in sentence for sentence in read_run(run).missing)
