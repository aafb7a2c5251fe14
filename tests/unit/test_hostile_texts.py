"""Texts of a model, of run files and of results never become elements, attributes or scripts of a page."""

import base64
import gzip
import hashlib
import html
import json
import re
from html.parser import HTMLParser

from hostile_texts import GROUPS, TEXTS, comparison_of, report_of

HARMLESS = [f"text {number}" for number in range(len(TEXTS))]


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


def test_2000_hostile_texts_are_text_in_the_report(tmp_path):
    page, harmless = (
        report_of(tmp_path / name, texts).read_text(encoding="utf-8")
        for name, texts in (("hostile", TEXTS), ("harmless", HARMLESS))
    )
    assert Structure(page).elements == Structure(harmless).elements
    shown = set()
    for number in range(GROUPS):
        view = data_of(page, f"data-group-{number}")
        shown |= {view["vocabulary"][token] for rollout in view["rollouts"] for token in rollout["tokens"]}
    assert shown == set(TEXTS)


def test_2000_hostile_texts_are_text_in_a_comparison(tmp_path):
    page, harmless = (
        comparison_of(tmp_path / name, texts).read_text(encoding="utf-8")
        for name, texts in (("hostile", TEXTS), ("harmless", HARMLESS))
    )
    assert Structure(page).elements == Structure(harmless).elements
    plots = [json.loads(text) for text in re.findall(r'data-plot="[^"]+">([^<]*)</script>', page)]
    names = {trace["name"] for plot in plots for trace in plot["data"]}
    assert len(plots) == 3 and names == {html.escape(text) for text in TEXTS[:2]}


def test_no_script_runs_in_a_comparison_but_its_own(tmp_path):
    page = comparison_of(tmp_path, HARMLESS).read_text(encoding="utf-8")
    policy = html.unescape(page.split('Content-Security-Policy" content="')[1].split('"')[0])
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert directives["default-src"] == "'none'"
    assert directives["script-src"].split() == [f"'sha256-{digest}'" for digest in hashes] and len(hashes) == 2
