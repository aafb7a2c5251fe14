"""The ``openrlhf-ktae`` command. Every command imports what it needs when it runs, so ``--help`` is quick."""

from pathlib import Path
from typing import Annotated

import typer

from openrlhf_ktae.report.cli import report
from openrlhf_ktae.tasks.math.cli import data


def _complete_recipe(incomplete: str) -> list[str]:
    from openrlhf_ktae.recipe import known_recipes

    recipes = [str(recipe) for recipe in known_recipes() if str(recipe).startswith(incomplete)]
    return recipes or [str(path) for path in sorted(Path().glob(f"{incomplete}*")) if incomplete]


def _complete_assignment(incomplete: str) -> list[str]:
    from openrlhf_ktae.runs.options import all_options

    return [f"{option.name}=" for option in all_options() if option.name.startswith(incomplete)]


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
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Overrides an option; may be given several times.",
            autocompletion=_complete_assignment,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration and OpenRLHF's command line, then stop.")
    ] = False,
    resume: Annotated[Path | None, typer.Option(help="A run folder to go on with, from its newest checkpoint.")] = None,
) -> None:
    """Train a recipe with OpenRLHF's loop: Ray, vLLM, DeepSpeed, and key-token advantages in the experience maker."""
    from openrlhf_ktae.runs.command import train_command

    raise typer.Exit(train_command(recipe, overrides or [], dry_run, resume))


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
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Overrides an option; may be given several times.",
            autocompletion=_complete_assignment,
        ),
    ] = None,
) -> None:
    """Say what is installed, whether it goes together, and whether a recipe fits this machine."""
    from openrlhf_ktae.runs.doctor import doctor_command

    raise typer.Exit(doctor_command(recipe, overrides or []))


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
) -> None:
    """Turn a DeepSpeed checkpoint (ZeRO 1, 2 or 3, any number of workers) into a Hugging Face folder."""
    from openrlhf_ktae.runs.merge import merge_command

    raise typer.Exit(merge_command(checkpoint, output, base, dtype, check, push, public))


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A folder that `merge` made.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The hub repository; made if needed.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new hub repository public.")] = False,
) -> None:
    """Upload a merged model to the Hugging Face Hub, with the token of HF_TOKEN or `hf auth login`."""
    from openrlhf_ktae.runs.merge import push_command

    raise typer.Exit(push_command(folder, repository, public))


app.command()(report)
app.command()(data)


if __name__ == "__main__":
    app()
