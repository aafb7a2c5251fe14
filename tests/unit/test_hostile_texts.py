"""Texts of a model, of run files and of results never become elements, attributes or scripts of a page."""

import base64
import dataclasses
import gzip
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
from eval_files import make_result
from hostile_texts import hostile_texts
from report_runs import write_run

from eval.compare import compare
from eval.page import write_page as write_comparison
from openrlhf_ktae.report import write_report
from openrlhf_ktae.run_folder import VOCABULARY_FILE

TEXTS = [text.encode("utf-8", "replace").decode() for text in hostile_texts(2000)]
HARMLESS = [f"text {number}" for number in range(len(TEXTS))]
GROUPS, SIZE, TOKENS = 25, 8, 10


class Structure(HTMLParser):
    """The elements of a page with the names of their attributes, in order."""

    def __init__(self, page):
        super().__init__()
        self.elements = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, tuple(sorted(name for name, _ in attrs))))


def data_of(page, name):
    found = re.search(rf'id="{name}">([^<]*)</script>', page)
    assert found, name
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def report(folder, texts):
    """The page of a run whose every token, prompt, response, label and name is one of the texts."""
    run = write_run(
        folder, name=texts[7], steps=1, rollout_steps=[1], groups=GROUPS, size=SIZE, tokens=12, hostile=False
    )
    file = run / "rollouts" / "step_00001.parquet"
    (run / "rollouts" / "step_00001_tokens.parquet").unlink()
    rows = pq.read_table(file).to_pylist()
    for number, row in enumerate(rows):
        ids = list(range(number * TOKENS, (number + 1) * TOKENS))
        row |= {
            "token_ids": ids,
            "generated": [True] * TOKENS,
            "log_prob": [-1.0] * TOKENS,
            "advantage": [0.5] * TOKENS,
        }
        row |= {"key_token_value": [0.1] * TOKENS, "response": "".join(texts[i] for i in ids)}
        row |= {"prompt": texts[row["group"]], "label": texts[number]}
    pq.write_table(pa.Table.from_pylist(rows), file)
    pq.write_table(pa.table({"token_id": list(range(len(texts))), "token": texts}), run / "rollouts" / VOCABULARY_FILE)
    described = json.loads((run / "run.json").read_text())
    described |= {"recipe": texts[11], "model": texts[12], "argv": texts[:20], "git_commit": texts[13]}
    (run / "run.json").write_text(json.dumps(described))
    return write_report([run]).read_text(encoding="utf-8")


def test_2000_hostile_texts_are_text_in_the_report(tmp_path):
    page, harmless = report(tmp_path / "hostile", TEXTS), report(tmp_path / "harmless", HARMLESS)
    assert Structure(page).elements == Structure(harmless).elements
    shown = set()
    for number in range(GROUPS):
        view = data_of(page, f"data-group-{number}")
        shown |= {view["vocabulary"][token] for rollout in view["rollouts"] for token in rollout["tokens"]}
    assert shown == set(TEXTS)


def comparison(folder, texts):
    """The page of two results whose names, settings and notes are the texts."""
    found = compare([make_result(folder / str(number), [True, False]) for number in range(2)])
    entries = [dataclasses.replace(entry, label=text) for entry, text in zip(found.entries, texts, strict=False)]
    for entry, text in zip(entries, texts[2:], strict=False):
        entry.results["settings"] |= {"model": text, "template": "".join(texts[1000:])}
    found = dataclasses.replace(found, entries=entries, notes=texts)
    return write_comparison(found, folder / "page.html").read_text(encoding="utf-8")


def test_2000_hostile_texts_are_text_in_a_comparison(tmp_path):
    page, harmless = comparison(tmp_path / "hostile", TEXTS), comparison(tmp_path / "harmless", HARMLESS)
    assert Structure(page).elements == Structure(harmless).elements
    plots = [json.loads(text) for text in re.findall(r'data-plot="[^"]+">([^<]*)</script>', page)]
    names = {trace["name"] for plot in plots for trace in plot["data"]}
    assert len(plots) == 3 and names == {html.escape(text) for text in TEXTS[:2]}


def test_no_script_runs_in_a_comparison_but_its_own(tmp_path):
    page = comparison(tmp_path, HARMLESS)
    policy = html.unescape(page.split('Content-Security-Policy" content="')[1].split('"')[0])
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert directives["default-src"] == "'none'"
    assert directives["script-src"].split() == [f"'sha256-{digest}'" for digest in hashes] and len(hashes) == 2
