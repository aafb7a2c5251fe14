"""What looks wrong in a run, said in words with the numbers. Thresholds stand here and in docs/report.md."""

from collections.abc import Callable
from datetime import datetime, timezone
from statistics import fmean, median, stdev

from openrlhf_ktae.checkpoints import has_checkpoint
from openrlhf_ktae.intervals import wilson_interval
from openrlhf_ktae.report.curves import PASS_AT
from openrlhf_ktae.report.findings import MIN_STEPS, Finding, check_share, is_solved, last_steps, measured, quarters
from openrlhf_ktae.report.run_folder import Run
from openrlhf_ktae.run_folder import RunFolder

STALE_SECONDS = 900.0
"""A run that says "running" and has written nothing for this long is called silent."""


def check_health(run: Run, now: datetime | None = None) -> list[Finding]:
    """Every check that the run's metrics allow, problems first. `now` is for runs that say they are running."""
    findings = [finding for check in CHECKS if (finding := check(run)) is not None]
    status = check_status(run, now or datetime.now(timezone.utc))
    return sorted(([status] if status else []) + findings, key=lambda f: ("problem", "watch", "fine").index(f.level))


def check_status(run: Run, now: datetime) -> Finding | None:
    """Did the run end well, and if it is running, does it still write?"""
    if run.status in ("failed", "interrupted"):
        went_on = f"Go on with: openrlhf-ktae train {run.info.get('recipe') or 'RECIPE'} --resume {run.path}"
        if run.option("openrlhf", "ckpt.path") is None or not has_checkpoint(RunFolder(run.path)):
            went_on = "There is no checkpoint to go on from."
        if run.status == "interrupted":
            return Finding("watch", "The run was stopped", f"Its last training step is {run.last_step}. {went_on}")
        reason = run.info.get("reason") or "train.log says why."
        detail = f"Its last training step is {run.last_step}; {reason} {went_on}"
        return Finding("problem", "The run failed", detail)
    if run.status != "running" or not run.train:
        return None
    written = _time_of(run.train[-1].get("time"))
    if written is None:
        return None
    silent = (now - written).total_seconds()
    _, step_seconds = measured(run, "timing/step_total")
    patience = max(STALE_SECONDS, 5 * median(step_seconds[-20:])) if step_seconds else STALE_SECONDS
    if silent > patience:
        return Finding(
            "problem",
            "The run has gone silent",
            f"It says it is running, but its last step ({run.last_step}) was written {silent / 60:.0f} minutes ago.",
        )
    return Finding("fine", "The run is writing", f"Step {run.last_step} was written {max(silent, 0):.0f} seconds ago.")


def check_reward(run: Run) -> Finding | None:
    """First against last quarter; a move counts when it exceeds two standard errors and 0.02."""
    steps, values = measured(run, "rollout/reward_mean", "reward")
    if len(values) < MIN_STEPS:
        return None
    first, last = quarters(values)
    move = fmean(last) - fmean(first)
    noise = 2 * (stdev(first) ** 2 / len(first) + stdev(last) ** 2 / len(last)) ** 0.5
    numbers = f"Mean {fmean(first):.3f} in the first quarter, {fmean(last):.3f} in the last of {len(steps)} steps"
    if abs(move) <= max(noise, 0.02):
        return Finding("watch", "Training reward is flat", f"{numbers}: a move of {move:+.3f} is within its noise.")
    if move < 0:
        return Finding("problem", "Training reward falls", f"{numbers} ({move:+.3f}).")
    return Finding("fine", "Training reward rises", f"{numbers} ({move:+.3f}).")


def check_evaluation(run: Run) -> Finding | None:
    """First against last pass@1 of each evaluation set, with 95 % intervals."""
    sources = sorted({m[1] for row in run.evaluations for key in row if (m := PASS_AT.fullmatch(key)) and m[2] == "1"})
    level, parts = "fine", []
    for source in sources:
        rows = [row for row in run.evaluations if isinstance(row.get(f"{source}/pass@1"), float)]
        if len(rows) < 2:
            continue
        (first, low_first, high_first), (last, low_last, high_last) = (
            (row[f"{source}/pass@1"], *wilson_interval(row[f"{source}/pass@1"], row.get(f"{source}/n") or 0.0))
            for row in (rows[0], rows[-1])
        )
        if low_last > high_first:
            verdict = "the intervals do not overlap"
        elif high_last < low_first:
            level, verdict = "problem", "it fell, and the intervals do not overlap"
        else:
            level, verdict = ("watch" if level == "fine" else level), "the intervals overlap"
        parts.append(
            f"{source}: pass@1 {first:.1%} [{low_first:.1%}, {high_first:.1%}] at step {rows[0]['step']}, "
            f"{last:.1%} [{low_last:.1%}, {high_last:.1%}] at step {rows[-1]['step']}; {verdict}."
        )
    titles = {
        "fine": "Evaluation accuracy rises",
        "watch": "Evaluation accuracy has not clearly moved",
        "problem": "Evaluation accuracy falls",
    }
    return Finding(level, titles[level], " ".join(parts)) if parts else None


def check_entropy(run: Run) -> Finding | None:
    """Collapse: below 0.02 nats, or below a tenth of where it began."""
    _, values = measured(run, "entropy_loss", "entropy")
    if len(values) < MIN_STEPS:
        return None
    first, last = fmean(values[:3]), fmean(values[-3:])
    numbers = f"{first:.3f} nats per token at the start, {last:.3f} in the last 3 steps"
    collapsed = last < 0.02 or last < 0.1 * first
    if (collapsed or last < 0.3 * first) and is_solved(run):
        return Finding("fine", "Entropy fell because the task is solved", f"{numbers}.")
    if collapsed:
        return Finding(
            "problem",
            "Entropy has collapsed",
            f"{numbers}: rollouts of a group hardly differ, little is left to learn from.",
        )
    if last < 0.3 * first:
        return Finding("watch", "Entropy is falling fast", f"{numbers}.")
    return Finding("fine", "Entropy holds", f"{numbers}.")


def check_truncation(run: Run) -> Finding | None:
    """Share of rollouts cut off at the length limit, mean of the last 5 steps: above 10 % watch, above 30 % problem."""
    return check_share(
        run,
        ("rollout/truncated_rate",),
        0.1,
        0.3,
        "Responses hit the length limit",
        "Few responses are cut off",
        "of the rollouts were cut off before their answer",
    )


def check_kl(run: Run) -> Finding | None:
    """The last KL to the reference (or, without one, to the rollout policy) against its own median."""
    steps, values = measured(run, "kl")
    if not any(values):
        steps, values = measured(run, "ppo_kl")
    if len(values) < MIN_STEPS:
        return None
    usual, last = median(abs(v) for v in values), abs(fmean(values[-3:]))
    numbers = f"Median {usual:.4f} nats per token over the run, {last:.4f} in the last 3 steps"
    if last > 0.5 or (last > 0.05 and last > 10 * usual):
        return Finding("problem", "KL is running away", f"{numbers} (step {steps[-1]}).")
    if last > 0.05 and last > 4 * usual:
        return Finding("watch", "KL is rising fast", f"{numbers}.")
    return Finding("fine", "KL is in bounds", f"{numbers}.")


def check_gradient(run: Run) -> Finding | None:
    """A spike is ten times the median; a gradient norm that is not a number is a problem."""
    rows = [row for row in run.train if "actor_grad_norm" in row]
    if not rows:
        return None
    broken = [row["step"] for row in rows if row["actor_grad_norm"] is None]
    if broken:
        return Finding(
            "problem",
            "The gradient was not a number",
            f"In {len(broken)} of {len(rows)} steps, first in step {broken[0]}.",
        )
    values = [row["actor_grad_norm"] for row in rows]
    largest, usual = max(values), median(values)
    numbers = f"Median {usual:.3g}, largest {largest:.3g} (step {rows[values.index(largest)]['step']})"
    if usual > 0 and largest > 10 * usual and len(values) >= MIN_STEPS:
        return Finding("watch", "The gradient norm spikes", f"{numbers}.")
    return Finding("fine", "The gradient norm is steady", f"{numbers}.")


def check_clipping(run: Run) -> Finding | None:
    """Share of tokens outside the trust region: above 20 % watch, above 40 % problem."""
    return check_share(
        run,
        ("ppo_clip_ratio",),
        0.2,
        0.4,
        "Many tokens are clipped",
        "Few tokens are clipped",
        "of the tokens had their ratio clipped",
    )


def check_timeouts(run: Run) -> Finding | None:
    """Any reward that timed out is worth saying; above 2 % it is a problem."""
    return check_share(
        run,
        ("reward/timed_out_frac",),
        0.0,
        0.02,
        "Rewards timed out",
        "No reward timed out",
        "of the rollouts were not graded in time",
        whole_run=True,
    )


def check_format(run: Run) -> Finding | None:
    """Share of responses with a readable answer, mean of the last 5 steps: below 80 % watch, below 50 % problem."""
    _, values = measured(run, "reward/formatted_frac")
    if not values:
        return None
    found = fmean(values[-5:])
    detail = f"{found:.1%} of the rollouts hold an answer in the asked-for form ({last_steps(len(values))})."
    if found < 0.8:
        return Finding("problem" if found < 0.5 else "watch", "Answers are missing or unreadable", detail)
    return Finding("fine", "Answers are readable", detail)


def check_groups(run: Run) -> Finding | None:
    """Groups without contrast teach nothing: above 60 % watch, above 85 % problem (mean of the last 5 steps)."""
    rows = [
        row
        for row in run.train
        if isinstance(row.get("rollout/groups_all_correct_frac"), float)
        and isinstance(row.get("rollout/groups_all_wrong_frac"), float)
    ]
    if not rows:
        return None
    span, rows = last_steps(len(rows)), rows[-5:]
    right = fmean(row["rollout/groups_all_correct_frac"] for row in rows)
    wrong = fmean(row["rollout/groups_all_wrong_frac"] for row in rows)
    detail = f"{right:.0%} of the groups were all correct and {wrong:.0%} all wrong ({span})."
    if right + wrong > 0.6:
        if right > wrong and is_solved(run):
            return Finding("fine", "Most groups are all correct: the task is solved", detail)
        hint = " The prompts are too easy." if right > wrong else " The prompts are too hard."
        return Finding("problem" if right + wrong > 0.85 else "watch", "Most groups carry no signal", detail + hint)
    return Finding("fine", "Most groups are mixed", detail)


def check_saturation(run: Run) -> Finding | None:
    """Share of tokens whose value is at its limit: above 30 % watch, above 60 % problem."""
    return check_share(
        run,
        ("ktae/saturated_frac",),
        0.3,
        0.6,
        "Key-token values are saturated",
        "Few key-token values are saturated",
        "of the tokens have a value at its limit",
        hint=" ktae.tf_smoothing above 0 counters it.",
    )


def check_separation(run: Run) -> Finding | None:
    """The value should be higher in correct rollouts than in wrong ones."""
    _, right = measured(run, "ktae/value_mean_correct")
    _, wrong = measured(run, "ktae/value_mean_wrong")
    if not right or not wrong:
        return None
    high, low = fmean(right[-5:]), fmean(wrong[-5:])
    span = last_steps(len(right))
    detail = f"The mean value is {high:+.4f} in correct rollouts and {low:+.4f} in wrong ones ({span})."
    if high <= low:
        return Finding("watch", "Key-token values do not separate right from wrong", detail)
    return Finding("fine", "Key-token values separate right from wrong", detail)


def check_weights(run: Run) -> Finding | None:
    """Policy against vLLM log-probabilities: growth means that updated weights did not reach the engine."""
    steps, values = measured(run, "weights/vllm_logprob_diff_mean")
    if not values:
        return None
    first, last = values[0], fmean(values[-3:])
    numbers = f"{first:.4f} nats per token at step {steps[0]}, {last:.4f} in {last_steps(len(values), 3)}"
    grown = len(values) >= MIN_STEPS and last > 0.05 and last > 5 * first
    if last > 0.3 or grown:
        return Finding(
            "problem",
            "Weights may not have reached vLLM",
            f"The policy and the engine disagree by {numbers}; rollouts then come from an older model.",
        )
    if last > 0.1:
        return Finding("watch", "Policy and vLLM drift apart", f"{numbers}.")
    return Finding("fine", "Weights reach vLLM", f"The policy and the engine differ by {numbers}.")


CHECKS: tuple[Callable[[Run], Finding | None], ...] = (
    check_evaluation, check_reward, check_entropy, check_truncation, check_kl, check_gradient, check_clipping,
    check_timeouts, check_format, check_groups, check_separation, check_saturation, check_weights,
)  # fmt: skip


def _time_of(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
