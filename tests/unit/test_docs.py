"""The documents name every option and every metric, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

from eval.options import RunOptions as RunProtocol
from openrlhf_ktae.advantage import KtaeConfig
from openrlhf_ktae.advantage.term import TERM
from openrlhf_ktae.advantage.terms import TERMS
from openrlhf_ktae.config import (
    AdvantageOptions,
    EngineOptions,
    PolicyLossOptions,
    RewardConfig,
    RunOptions,
    TaskOptions,
)
from openrlhf_ktae.losses import LOSSES
from openrlhf_ktae.losses.loss import LOSS
from openrlhf_ktae.runs.options import all_options
from openrlhf_ktae.sweep.plan import SweepFile
from openrlhf_ktae.tasks import TASKS
from openrlhf_ktae.tasks.task import TASK

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*/README.md")])


@pytest.mark.parametrize(
    ("section", "document"),
    [
        (RunOptions, "runs.md"),
        (SweepFile, "sweeps.md"),
        (TaskOptions, "tasks.md"),
        *((TASK.load(name).Options, "tasks.md") for name in TASKS),
        (EngineOptions, "gpus.md"),
        (RewardConfig, "grading.md"),
        (KtaeConfig, "estimator.md"),
        (AdvantageOptions, "methods.md"),
        (PolicyLossOptions, "methods.md"),
    ],
)
def test_every_option_is_documented(section, document):
    text = (ROOT / "docs" / document).read_text() + (ROOT / "docs" / "tracking.md").read_text()
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", text))))
    assert set(section.model_fields) - named == set()


def test_every_metric_of_ours_is_documented():
    text = (ROOT / "docs" / "runs.md").read_text()
    code = "".join(path.read_text() for path in (ROOT / "openrlhf_ktae").rglob("*.py") if "report" not in path.parts)
    metrics = set(re.findall(r'"((?:ktae|rollout|reward|weights|timing)/[a-z0-9_]+)"', code))
    assert len(metrics) > 15
    assert {metric for metric in metrics if f"`{metric}`" not in text} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target


def test_every_recipe_is_reached_from_the_documents():
    recipes = {path.parent for path in ROOT.glob("recipes/*/recipe.yaml")}
    targets = [
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if "://" not in target
    ]
    reached = {target if target.is_dir() else target.parent for target in targets}
    assert len(recipes) > 40 and {recipe.name for recipe in recipes - reached} == set()


SECTION_OF_DOCUMENT = {"estimator": "ktae", "grading": "grader", "runs": "run", "tasks": "arithmetic"}
"""The section of options that a table names without it."""


def documented_defaults() -> list[tuple[str, str, str]]:
    """(document, option, default as it is written) of every row of every table with a column `default`."""
    found = []
    for document in ROOT.glob("docs/*.md"):
        for table in re.findall(r"(?:^\|.*\n)+", document.read_text(), flags=re.MULTILINE):
            lines = [line.strip().strip("|") for line in table.splitlines()]
            header, _, *rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
            if len(header) < 2 or header[1] != "default":
                continue
            section = SECTION_OF_DOCUMENT.get(document.stem)
            for cells in rows:
                names = re.findall(r"`([\w.]+)`", cells[0])
                defaults = cells[1].replace("`", "").split(", ") if len(names) > 1 else [cells[1].replace("`", "")]
                if cells[1]:  # else another document has it
                    full = [name if "." in name or section is None else f"{section}.{name}" for name in names]
                    found += [(document.stem, *pair) for pair in zip(full, defaults, strict=True)]
    return found


def test_documented_defaults_are_those_of_the_models():
    defaults = {option.name: option.default for option in all_options()}
    documented = documented_defaults()
    assert len(documented) > 30 and {document for document, *_ in documented} >= set(SECTION_OF_DOCUMENT)
    wrong = []
    for document, name, text in documented:
        default = defaults[name]
        said = {"empty": "", "()": (), "true": True, "false": False}.get(text, text.replace("<task>", "arithmetic"))
        same = float(text) == default if isinstance(default, float) else said == default or text == str(default)
        wrong += [] if same else [f"{document}: {name} is {default!r}, not {text}"]
    assert wrong == []


def test_every_option_of_a_method_stands_in_a_table_with_its_default():
    methods = [(TERM, name) for name in TERMS] + [(LOSS, name) for name in LOSSES]
    options = {f"{name}.{option}" for kind, name in methods for option in kind.load(name).Options.model_fields}
    assert len(options) > 25 and options - {name for _, name, _ in documented_defaults()} == set()


def test_the_documented_protocol_of_the_evaluation_is_its_default():
    text = " ".join((ROOT / "docs" / "evaluation.md").read_text().split())
    assert (RunProtocol.temperature, RunProtocol.n, RunProtocol.dtype) == (0.0, 1, "bfloat16")
    assert (
        f"template `{RunProtocol.template}`, greedy, one sample, {RunProtocol.max_tokens} new tokens, "
        f"{RunProtocol.max_model_len} tokens of prompt and response, bfloat16, seed {RunProtocol.seed}"
    ) in text
