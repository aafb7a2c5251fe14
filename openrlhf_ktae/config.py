"""This project's own options, typed. Imports neither torch nor ray."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

KEY_TOKEN_SHARE = 0.1
"""A token is a key token where |K| is above this share of ``ktae.scale``, the most that |K| can be."""


class Options(BaseModel):
    """Base of every options model: unknown keys are errors, values never change after construction."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class AdvantageOptions(Options):
    """What becomes of OpenRLHF's rollout-level advantages before training (section ``advantage``)."""

    terms: tuple[str, ...] = ()
    """Advantage terms, applied in this order: names (docs/methods.md) or paths of files of your own; none is
    OpenRLHF's estimator alone. The options of a term are a section with its name, or its file's name."""

    @field_validator("terms")
    @classmethod
    def _named_once(cls, terms: tuple[str, ...]) -> tuple[str, ...]:
        names = [term.rpartition("/")[2].removesuffix(".py") for term in terms]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is named twice; a term works once, and its name is its section of options")
        return terms


class PolicyLossOptions(Options):
    """The policy loss (section ``policy_loss``)."""

    name: str = "openrlhf"
    """`openrlhf` is OpenRLHF's own, with all of its options (`actor.*`); else a name (docs/methods.md) or the path of a
    file of your own. The options of a loss are a section with its name, or its file's name."""


class TaskOptions(Options):
    """What is trained on (section ``task``)."""

    name: str = "math"
    """The task (docs/tasks.md): a name, or the path of a file of your own. Its verifier rewards; its options are a
    section with its name, or its file's name."""


class RunOptions(Options):
    """Options of a run that belong neither to OpenRLHF nor to the estimator."""

    name: str = Field(default="", pattern=r"^[A-Za-z0-9._+-]*$")
    """Name of the run in its folder, plots and tables; empty: that of the recipe's folder, or of its file if that is
    not recipe.yaml."""

    output_dir: str = "runs"
    """Folder that holds the run folders."""

    device: Literal["gpu", "cpu"] = "gpu"
    """What the policy, reference and vLLM engines run on. `cpu` counts logical GPUs in Ray and trains tiny models."""

    logical_gpus: int = Field(default=8, ge=1)
    """GPUs that Ray counts on a machine without any (`device: cpu`, outside an existing cluster)."""

    cluster_wait_seconds: float = Field(default=300, ge=0)
    """How long to wait for the cluster's GPUs: nodes may still be joining, and an ended job's processes leaving."""

    rollout_log_steps: int = Field(default=10, ge=0)
    """Every how many steps the rollouts with their key-token values go to rollouts/*.parquet; 0 writes none."""

    rollout_log_share: float = Field(default=1.0, ge=0, le=1)
    """Share of a step's prompts in those files. Prompts with right and wrong answers are always there, above this share
    too; others fill it up."""

    wandb: Literal["off", "online", "offline"] = "off"
    """Weights & Biases. The key comes from the environment (WANDB_API_KEY) or `wandb login`, never from an option."""

    wandb_project: str = Field(default="openrlhf_ktae", min_length=1)
    """Project on Weights & Biases."""

    wandb_entity: str = ""
    """Team or user on Weights & Biases; empty: the key's default."""

    wandb_group: str = ""
    """Group on Weights & Biases; runs that differ in their seed belong together."""

    tensorboard: bool = False
    """TensorBoard files in the run folder (tensorboard/)."""

    tracked_rollouts: int = Field(default=8, ge=0)
    """Rollouts with their key tokens in the trackers' table, whenever rollouts are written (`rollout_log_steps`)."""

    evaluate_first: bool = True
    """Evaluate before the first step too, so that a run shows where it started."""

    max_restarts: int = Field(default=3, ge=0)
    """How often a run goes on by itself from its last checkpoint after a process died; 0 leaves it to a person. It ends
    when two attempts in a row fail in the same step, and after failures that another attempt cannot change."""

    stop_on_collapse: bool = True
    """End a run that looks collapsed for `collapse_steps` steps in a row: no rollout correct where more than 5 % once
    were, entropy above 90 % of its maximum, or entropy below 0.001 nats while less than 95 % are correct."""

    collapse_steps: int = Field(default=10, ge=1)
    """Steps in a row after which a run counts as collapsed: a warning, and the end where `stop_on_collapse` says so. No
    checkpoint is written in such steps."""

    reward_seconds: float = Field(default=300.0, gt=0)
    """Seconds that one call of a reward function may take; then its rollout has no reward."""

    max_failed_prompts: float = Field(default=0.1, ge=0, le=1)
    """Share of a step's prompts that may fail (no reward, no room) and be replaced by the next ones; more end
    the run. One prompt may always fail, unless this is 0."""

    trust_remote_code: bool = False
    """Run Python code that a model folder or hub model brings (``auto_map``); without, such a model is refused."""

    deterministic_sampling: bool = False
    """Sample with a seed per step and prompt, in batches that do not depend on timing: a resumed run repeats the
    unbroken one bit for bit. For synchronous training; costs waiting for the slowest prompt where groups are
    filtered."""


class EngineOptions(Options):
    """vLLM's engines in training, beside OpenRLHF's ``vllm.*`` (section ``engine``)."""

    max_num_seqs: int = Field(default=0, ge=0)
    """Responses that an engine decodes at once; 0: on a GPU what its key-value cache holds at half of `data.max_len`
    each, 64 to 1,024 (docs/gpus.md), on a CPU 256."""

    max_num_batched_tokens: int = Field(default=8192, ge=64)
    """Most tokens of one forward pass of an engine on a GPU: prompts that start and responses that go on."""


class RewardConfig(Options):
    """Options of the reward function (section ``grader``)."""

    answer_style: Literal["boxed", "tags", "hash", "auto"] = "boxed"
    """Where the final answer stands: in the last ``\\boxed{}``, in ``<answer>`` tags, after the last ``#``, or any."""

    correct: float = 1.0
    """Reward of a correct answer."""

    wrong: float = 0.0
    """Reward of a wrong, missing or ungradable answer."""

    format_bonus: float = 0.0
    """Added to the reward when an answer stands where ``answer_style`` wants it, correct or not."""

    deadline_seconds: float = Field(default=5.0, gt=0)
    """Seconds of processor time a comparison may take in a worker process (on the clock up to four times as long);
    then the worker is killed and the answer is wrong."""

    workers: int = Field(default=2, ge=1)
    """Worker processes of the grader, in each process that grades (in training: each vLLM engine)."""

    memory_limit_mb: int = Field(default=1024, ge=512)
    """Address space of a worker process in MiB; a comparison that needs more is wrong."""

    cache_size: int = Field(default=65536, ge=0)
    """Comparisons that are remembered, by answer and label; 0 remembers none."""

    @model_validator(mode="after")
    def _correct_pays(self) -> "RewardConfig":
        if self.correct <= self.wrong:
            raise ValueError(
                f"grader.correct: got {self.correct}, not above grader.wrong ({self.wrong}); training would not learn"
            )
        return self
