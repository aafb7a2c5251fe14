"""Texts that try to leave the place where a page shows them: what a model could write about itself."""

import dataclasses
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from eval_files import make_result
from report_runs import write_run

from eval.compare import compare
from eval.page import write_page as write_comparison
from openrlhf_ktae.report import write_report
from openrlhf_ktae.run_folder import VOCABULARY_FILE

GROUPS, SIZE, TOKENS = 25, 8, 10
"""Of the report's run: so many tokens in all as there are texts."""

_PIECES = (
    "</script>", "<script>owned=1</script>", "<img src=x onerror=owned=1>", "<svg/onload=owned=1>", "</style>",
    "</title>", "</textarea>", "<!--", "-->", "<![CDATA[", "]]>", "<iframe srcdoc='<script>owned=1</script>'>",
    "<base href=//x.test/>", "<meta http-equiv=refresh content=0;url=//x.test>", "<a href=javascript:owned=1>",
    "' onmouseover='owned=1", "\" autofocus onfocus=\"owned=1", "`${owned=1}`", "{{ owned }}", "{% include owned %}",
    "\\u003cscript\\u003e", "&lt;script&gt;", "&#60;b&#62;", "\u2028owned=1\u2029", "\x00", "\x1b]0;owned\x07",
    "\u202e", "\ud800", "\ufeff", "\r\n", "\\", "</SCRIPT ", "<plaintext>", "<math><mi//xlink:href='data:x,owned'>",
    "javascript:owned=1//", "-->]]></script><b>", "$x^2$", "%3Cscript%3E", "=cmd|' /C owned'!A0",
)  # fmt: skip


def hostile_texts(count: int, seed: int = 0) -> list[str]:
    """So many different texts, each of up to four such pieces with letters between them."""
    rng = random.Random(seed)
    texts = dict.fromkeys(_PIECES)
    while len(texts) < count:
        parts = rng.choices(_PIECES, k=rng.randint(1, 4))
        texts[rng.choice(("", " ", "a")).join(parts) + rng.choice(("", "\n", "b", " "))] = None
    return list(texts)[:count]


TEXTS = [text.encode("utf-8", "replace").decode() for text in hostile_texts(GROUPS * SIZE * TOKENS)]


def report_of(folder: Path, texts: list[str]) -> Path:
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
    return write_report([run])


def comparison_of(folder: Path, texts: list[str]) -> Path:
    """The page of two results whose names, settings and notes are the texts."""
    found = compare([make_result(folder / str(number), [True, False]) for number in range(2)])
    entries = [dataclasses.replace(entry, label=text) for entry, text in zip(found.entries, texts, strict=False)]
    for entry, text in zip(entries, texts[2:], strict=False):
        entry.results["settings"] |= {"model": text, "template": "".join(texts[1000:])}
    found = dataclasses.replace(found, entries=entries, notes=texts)
    return write_comparison(found, folder / "page.html")
