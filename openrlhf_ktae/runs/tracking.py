"""Weights & Biases and TensorBoard, fed from the run folder by the process that the user started.

OpenRLHF's own W&B logger (utils/logging_utils.py:62-80) runs in a Ray worker and sends all arguments, the key among
them. Here the key stays in this process: no worker, argument, file or log ever holds it.
"""

import heapq
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openrlhf_ktae.config import RunOptions
from openrlhf_ktae.recipe import RunConfig
from openrlhf_ktae.run_folder import EXIT_STOPPED, VOCABULARY_FILE, RunFolder, read_vocabulary
from openrlhf_ktae.runs.terminal import say_error

API_KEY = "WANDB_API_KEY"
_WANDB_WAY_OUT = f"check the key ({API_KEY}, or `wandb login`) and the connection, or set run.wandb=offline"
_ID_FILE = "wandb_run_id"

CURATED = (
    "rollout/accuracy",
    "rollout/reward_mean",
    "rollout/response_length_mean",
    "rollout/response_length_correct_mean",
    "rollout/response_length_wrong_mean",
    "rollout/truncated_rate",
    "rollout/groups_all_correct_frac",
    "rollout/groups_all_wrong_frac",
    "reward/formatted_frac",
    "reward/timed_out_frac",
    "entropy_loss",
    "policy_loss",
    "kl",
    "ppo_kl",
    "ppo_clip_ratio",
    "actor_grad_norm",
    "actor_lr",
    "weights/vllm_logprob_diff_mean",
)
"""Training metrics that go to the trackers, beside all of ``ktae/`` and ``timing/``; metrics.jsonl holds every one."""

_URL_WITH_PASSWORD = re.compile(r"\w://[^/@\s]*:[^/@\s]+@")

TABLE_COLUMNS = ["step", "prompt", "response", "label", "correct", "reward", "key tokens for", "key tokens against"]
_KEY_TOKENS = 8


def check_tracking(config: RunConfig, environment: dict[str, str] | None = None) -> None:
    """Refuses secrets among the options, and an online run that would stop to ask for a key.

    Raises:
        ValueError: naming the option and the way out.
    """
    for name, value in config.openrlhf.items():
        if name == "logger.wandb.key" and value is not None:
            raise ValueError(
                f"{name}: a key among the options would stand in process lists and logs; set run.wandb=online and put "
                f"the key into the environment as {API_KEY}"
            )
        if _URL_WITH_PASSWORD.search(str(value)):
            raise ValueError(
                f"{name}: a URL with a password, which would stand in run.json, process lists and logs; for rewards, "
                "name a file (reward.remote_url=FILE.py) whose reward_func reads it from the environment"
            )
    if config.run.wandb == "online" and not _has_key(os.environ if environment is None else environment):
        raise ValueError(
            f"run.wandb: online needs a key; set {API_KEY} in the environment, run `wandb login` once, or set "
            "run.wandb=offline and upload later with `wandb sync`"
        )


def _has_key(environment: Any) -> bool:
    if environment.get(API_KEY):
        return True
    import netrc

    try:
        hosts = netrc.netrc(environment.get("NETRC") or Path.home() / ".netrc").hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)


def curated(line: dict[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl that go to the trackers, under ``train/`` or ``eval/``."""
    if line["kind"] == "eval":
        skip = ("kind", "step", "time", "seconds")
        return {f"eval/{name}": value for name, value in line.items() if name not in skip and value is not None}
    chosen = {name: line[name] for name in line if name in CURATED or name.startswith(("ktae/", "timing/"))}
    return {f"train/{name}": value for name, value in chosen.items() if value is not None}


def key_tokens(tokens: list[str], values: list[float], sign: int) -> str:
    """The distinct tokens of a rollout with the largest values of one sign, strongest first: ``'so' +0.93, 'I' +0.41``.

    ``sign``: 1 for tokens that speak for a correct answer, -1 for those against.
    """
    best = {token: value for token, value in zip(tokens, values, strict=True) if value * sign > 0}
    strongest = heapq.nlargest(_KEY_TOKENS, best.items(), key=lambda item: item[1] * sign)
    return ", ".join(f"{token!r} {value:+.2f}" for token, value in strongest)


def sample_rows(path: Path, count: int) -> list[list[Any]]:
    """The first ``count`` rollouts of a rollouts file as rows of `TABLE_COLUMNS`."""
    import pyarrow.parquet as pq

    columns = ["step", "prompt", "response", "label", "correct", "reward", "token_ids", "key_token_value"]
    texts = read_vocabulary(path.with_name(VOCABULARY_FILE))
    rows: list[list[Any]] = []
    for batch in pq.ParquetFile(path).iter_batches(batch_size=count, columns=columns):
        for row in batch.to_pylist():
            tokens = [texts.get(token_id, f"<{token_id}>") for token_id in row.pop("token_ids")]
            values = row.pop("key_token_value", None) or [0.0] * len(tokens)
            rows.append([*row.values(), key_tokens(tokens, values, 1), key_tokens(tokens, values, -1)])
        break
    return rows


class TrackingError(Exception):
    """A tracker that the run asks for could not start; the message names its option and the way out."""


@contextmanager
def _starting(what: str, way_out: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # another program's client may raise anything
        raise TrackingError(f"{what}: {error}; {way_out}") from error


class Tracking:
    """The trackers of one run; without any, every method does nothing. One that fails is switched off."""

    def __init__(self, folder: RunFolder, run: RunOptions, name: str, description: dict[str, Any]) -> None:
        """``description``: the content of run.json; W&B gets its configuration, versions and commit.

        Raises:
            TrackingError: one does not start, such as W&B with a key that it refuses.
        """
        self._folder, self._rows = folder, run.tracked_rollouts
        self._tables: set[Path] = set(self._rollout_files())
        self._trackers: list[_WeightsAndBiases | _TensorBoard] = []
        if run.wandb != "off":
            with _starting("run.wandb: W&B did not start", _WANDB_WAY_OUT):
                self._trackers.append(_WeightsAndBiases(folder, run, name, description))
        if run.tensorboard:
            with _starting("run.tensorboard: TensorBoard's writer did not start", "set it to false"):
                self._trackers.append(_TensorBoard(folder))
        # The workers have no use for it, and Ray may write an environment into its logs.
        os.environ.pop(API_KEY, None)

    def log(self, line: dict[str, Any]) -> None:
        """Passes a line of metrics.jsonl on, and the rollouts that were written since the last one."""
        numbers = curated(line)
        self._each(lambda tracker: tracker.log(numbers, line["step"]))
        self._log_new_rollouts()

    def close(self, exit_code: int) -> None:
        """Writes everything out; W&B marks the run as failed unless it finished or was stopped."""
        self._log_new_rollouts()  # written beside training: the last ones may be younger than the last line
        self._each(lambda tracker: tracker.close(exit_code))

    def _log_new_rollouts(self) -> None:
        for path in self._rollout_files() if self._trackers else ():
            if path not in self._tables and self._rows:
                self._tables.add(path)
                self._log_rollouts(int(path.stem.removeprefix("step_")), path)

    def _log_rollouts(self, step: int, path: Path) -> None:
        self._each(lambda tracker: tracker.log_rollouts(sample_rows(path, self._rows), step))

    def _rollout_files(self) -> Iterable[Path]:
        return sorted(p for p in self._folder.rollouts.glob("step_*.parquet") if not p.stem.endswith("_tokens"))

    def _each(self, use: Callable[[Any], None]) -> None:
        for tracker in list(self._trackers):
            try:
                use(tracker)
            except Exception as error:  # as above, and no run ends for it
                self._trackers.remove(tracker)
                say_error(
                    "WARNING:",
                    f"{tracker.option} is switched off: {type(error).__name__}: {error}; training goes on, and "
                    f"{self._folder.metrics_file} has everything",
                )


class _WeightsAndBiases:
    option = "run.wandb"

    def __init__(self, folder: RunFolder, run: RunOptions, name: str, description: dict[str, Any]) -> None:
        import wandb

        id_file = folder.path / _ID_FILE
        if not id_file.exists():
            id_file.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
        self._run = wandb.init(
            mode=run.wandb,  # pyright: ignore[reportArgumentType]  # "off" never gets here
            project=run.wandb_project,
            entity=run.wandb_entity or None,
            group=run.wandb_group or None,
            name=name,
            id=id_file.read_text(encoding="utf-8").strip(),
            # A resumed run goes on in the same curves.
            resume="allow" if run.wandb == "online" else None,
            dir=str(folder.path),
            config={key: description[key] for key in ("config", "versions", "git_commit", "seed", "model", "recipe")},
            settings=wandb.Settings(console="off", silent=True),
        )
        for pattern in ("train/*", "eval/*", "rollouts"):
            self._run.define_metric(pattern, step_metric="global_step")

    def log(self, numbers: dict[str, float], step: int) -> None:
        self._run.log(numbers | {"global_step": step})

    def log_rollouts(self, rows: list[list[Any]], step: int) -> None:
        import wandb

        table = wandb.Table(columns=TABLE_COLUMNS, data=rows)  # pyright: ignore[reportArgumentType]
        self._run.log({"rollouts": table, "global_step": step})

    def close(self, exit_code: int) -> None:
        self._run.finish(exit_code=0 if exit_code == EXIT_STOPPED else exit_code)


class _TensorBoard:
    option = "run.tensorboard"

    def __init__(self, folder: RunFolder) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(log_dir=str(folder.path / "tensorboard"))

    def log(self, numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)

    def log_rollouts(self, rows: list[list[Any]], step: int) -> None:
        head = f"| {' | '.join(TABLE_COLUMNS)} |\n|{'---|' * len(TABLE_COLUMNS)}\n"
        body = "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in rows)
        self._board.add_text("rollouts", head + body, step)

    def close(self, exit_code: int) -> None:
        self._board.close()


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", "<br>")
