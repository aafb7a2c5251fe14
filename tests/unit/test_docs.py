"""The documents name every option and every metric, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

from openrlhf_ktae.advantage import KtaeConfig
from openrlhf_ktae.config import AdvantageOptions, PolicyLossOptions, RewardConfig, RunOptions, TaskOptions
from openrlhf_ktae.tasks import TASKS
from openrlhf_ktae.tasks.task import TASK

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*/README.md")])


@pytest.mark.parametrize(
    ("section", "document"),
    [
        (RunOptions, "runs.md"),
        (TaskOptions, "tasks.md"),
        *((TASK.load(name).Options, "tasks.md") for name in TASKS),
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
