"""The ``openrlhf-ktae`` command. Every command imports what it needs when it runs, so ``--help`` is quick."""

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from openrlhf_ktae.report.cli import report
from openrlhf_ktae.tasks.math.cli import data


def _complete_recipe(incomplete: str) -> list[str]:
    from openrlhf_ktae.recipe import known_recipes

    recipes = [str(recipe) for recipe in known_recipes() if str(recipe).startswith(incomplete)]
    return recipes or [str(path) for path in sorted(Path().glob(f"{incomplete}*")) if incomplete]


def _complete_assignment(incomplete: str) -> list[str]:
    from openrlhf_ktae.runs.options import all_options

    return [f"{option.name}=" for option in all_options() if option.name.startswith(incomplete)]


_Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Overrides an option; may be given several times.",
        autocompletion=_complete_assignment,
    ),
]


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def main() -> None:
    """Key-Token Advantage Estimation (KTAE) for OpenRLHF."""


@app.command()
def train(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe's folder or its recipe.yaml.", autocompletion=_complete_recipe)
    ],
    overrides: _Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration and OpenRLHF's command line, then stop.")
    ] = False,
    resume: Annotated[Path | None, typer.Option(help="A run folder to go on with, from its newest checkpoint.")] = None,
) -> None:
    """Train a recipe with OpenRLHF's loop: Ray, vLLM, DeepSpeed, and key-token advantages in the experience maker."""
    from openrlhf_ktae.runs.command import train_command

    raise typer.Exit(train_command(recipe, overrides or [], dry_run, resume))


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="YAML: recipe, seeds, arms, baseline (docs/sweeps.md).")],
    output: Annotated[
        Path | None, typer.Option(help="The sweep's folder; by default runs/sweeps/ and the file's name.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every run and list where they stand.")] = False,
    parallel: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="Only runs whose name holds this, such as grpo/; may be given several times."
        ),
    ] = None,
    max_failures: Annotated[
        int, typer.Option(min=0, help="Start no more runs after so many failures in a row; 0: go on in any case.")
    ] = 3,
) -> None:
    """Train several arms on the same seeds, and count what came out; the same command goes on where it stopped."""
    from openrlhf_ktae.runs.sweep import sweep_command

    raise typer.Exit(sweep_command(file, output, dry_run, parallel, only or [], max_failures))


@app.command("options")
def list_options(
    word: Annotated[str | None, typer.Argument(help="Part of a name or a meaning; all options if not given.")] = None,
) -> None:
    """List options, ours and OpenRLHF's: default, meaning, and which recipe sets it to what."""
    from openrlhf_ktae.runs.options import options_command

    raise typer.Exit(options_command(word))


@app.command()
def doctor(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="A recipe to check too: batches, steps, GPU memory.", autocompletion=_complete_recipe),
    ] = None,
    overrides: _Overrides = None,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Try the GPU path: kernel, training, merge, evaluation; about ten minutes.")
    ] = False,
    device: Annotated[str, typer.Option(help="With --gpu: gpu, or cpu for what can run without one.")] = "gpu",
    output: Annotated[Path, typer.Option(help="With --gpu: JSON file for a bug report.")] = Path("gpu_check.json"),
    only: Annotated[
        list[str] | None, typer.Option(help="With --gpu: checks whose name starts so; may be given several times.")
    ] = None,
) -> None:
    """Say what is installed, whether it goes together, and whether a recipe or the GPU path works on this machine."""
    from openrlhf_ktae.runs.doctor import doctor_command, gpu_doctor

    if device not in ("gpu", "cpu"):
        raise typer.BadParameter(f"--device: got {device!r}, expected gpu or cpu")
    code = gpu_doctor(device, output, only or []) if gpu else doctor_command(recipe, overrides or [])
    raise typer.Exit(code)


@app.command()
def checkpoints(run: Annotated[Path, typer.Argument(help="A run folder, such as runs/latest.")]) -> None:
    """List a run's checkpoints and verify their files, sizes and hashes."""
    from openrlhf_ktae.runs.checkpoints import checkpoints_command

    raise typer.Exit(checkpoints_command(run))


@app.command()
def merge(
    checkpoint: Annotated[Path, typer.Argument(help="A run folder, or one checkpoint in it (.../global_step20).")],
    output: Annotated[Path, typer.Argument(help="New folder for the Hugging Face model.")],
    base: Annotated[
        str | None, typer.Option(help="Model with the configuration and tokenizer; default: what run.json says.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    check: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Load the result and compare log-probabilities.")
    ] = True,
    push: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Upload to this hub repository.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new hub repository public.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model brings.")
    ] = False,
) -> None:
    """Turn a DeepSpeed checkpoint (ZeRO 1, 2 or 3, any number of workers) into a Hugging Face folder."""
    from openrlhf_ktae.runs.merge import merge_command

    raise typer.Exit(merge_command(checkpoint, output, base, dtype, check, push, public, trust_remote_code))


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A folder that `merge` made.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The hub repository; made if needed.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new hub repository public.")] = False,
) -> None:
    """Upload a merged model to the Hugging Face Hub, with the token of HF_TOKEN or `hf auth login`."""
    from openrlhf_ktae.runs.merge import push_command

    raise typer.Exit(push_command(folder, repository, public))


class _DataGroup(TyperGroup):
    """``data OUTPUT ...`` is ``data make OUTPUT ...``."""

    def parse_args(self, ctx, args):
        """Puts ``make`` before arguments that name no command."""
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args and args[0] in known else ["make", *args])


prompt_sets = typer.Typer(
    cls=_DataGroup, help="Prompt sets: `data OUTPUT ...` makes one, `data values` prepares A*-PO."
)
prompt_sets.command("make")(data)


@prompt_sets.command()
def values(
    prompts: Annotated[Path, typer.Argument(help="Prompt set, as `data` writes it.")],
    model: Annotated[str, typer.Option(help="Reference model: the one that training starts from.")],
    output: Annotated[Path, typer.Option(help="The prompt set again, with the column `rewards`.")],
    samples: Annotated[int, typer.Option(help="Responses per prompt.")] = 8,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of a response, as in the training.")] = 1024,
    task: Annotated[str, typer.Option(help="Task whose verifier gives the rewards (task.name).")] = "math",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Option of the reward: grader.* or the task's."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    tensor_parallel: Annotated[int, typer.Option(help="GPUs that share one copy of the model.")] = 1,
    engines: Annotated[
        int | None, typer.Option(help="Copies of the model, on as many GPUs each; default: one, in this process.")
    ] = None,
    gpu_memory_utilization: Annotated[float, typer.Option(help="Share of a GPU's memory that vLLM takes.")] = 0.9,
    skip_unsolved: Annotated[
        bool, typer.Option("--skip-unsolved", help="Leave out prompts of which no sample is correct.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model brings.")
    ] = False,
) -> None:
    """Sample a reference model and write what its responses are worth: stage 1 of A*-PO (docs/methods.md).

    Resumable: the same command goes on where it stopped.
    """
    from openrlhf_ktae.runs.values import ValuesOptions, values_command

    raise typer.Exit(
        values_command(
            ValuesOptions(
                prompts, model, output, samples, max_tokens, task, tuple(settings or ()), seed, dtype, tensor_parallel,
                engines, gpu_memory_utilization, skip_unsolved, trust_remote_code,
            )
        )
    )  # fmt: skip


app.command()(report)
app.add_typer(prompt_sets, name="data")


if __name__ == "__main__":
    app()
