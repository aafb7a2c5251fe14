"""A whole evaluation against a small real HTTP server: resuming, refusing, dying, partial results."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import eval_server
import pytest
import yaml

from eval.progress import GradingProgress
from eval.records import read_records
from eval.run import RunOptions, run
from openrlhf_ktae.generation import BackendError, EngineOptions, Sampling
from openrlhf_ktae.tasks.tiny_model import make_tokenizer

ROOT = Path(__file__).resolve().parents[2]
PROBLEMS = 30


class Watcher:
    """Counts what it is told."""

    def __init__(self):
        self.total, self.before, self.new = 0, 0, 0

    def start(self, total, done=(), description=""):
        self.total, self.before = total, len(done)

    def graded(self, records):
        self.new += len(records)


@pytest.fixture
def serve(tmp_path):
    processes = []

    def start(dies_after=10**9, delay=0.0):
        port_file = tmp_path / f"port{len(processes)}"
        script = Path(eval_server.__file__)
        processes.append(subprocess.Popen([sys.executable, str(script), str(port_file), str(dies_after), str(delay)]))
        while not port_file.exists():
            assert processes[-1].poll() is None
            time.sleep(0.02)
        return f"http://127.0.0.1:{port_file.read_text()}/v1"

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def benchmark(tmp_path):
    rows = [{"question": f"What is {i} mod 3?", "solution": str(i % 3), "level": i % 2} for i in range(PROBLEMS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"problem": "question", "answer": "solution", "difficulty": "level"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"name": "mine", "path": "rows.jsonl", "columns": columns}))
    return tmp_path / "mine.yaml"


def options(url, benchmark, folder, **changes):
    return RunOptions(eval_server.MODEL, "none", folder, benchmarks=[benchmark], base_url=url, **changes)


def test_results_say_everything_that_decides_the_numbers(serve, benchmark, tmp_path):
    folder, warnings = tmp_path / "out", []
    results = run(options(serve(), benchmark, folder), Watcher(), warnings.append)
    records = read_records(folder / "outputs.jsonl")
    row = results["tasks"]["mine"]
    assert row["n"] == PROBLEMS and row["k"] == 1
    assert row["pass@1"] == row["avg@k"] == row["maj@k"] == sum(r.correct for r in records) / PROBLEMS > 0
    assert row["ci95"][0] < row["pass@1"] < row["ci95"][1]
    assert row["mean_tokens"] == sum(r.tokens or 0 for r in records) / PROBLEMS
    assert (row["max_tokens"], row["formatted"], row["truncated"]) == (7, 1.0, 0.0)
    assert {level: part["n"] for level, part in row["by_difficulty"].items()} == {"0": 15, "1": 15}
    assert results["partial"] is False
    assert results["settings"]["temperature"] == 0.0 and results["seeds"]["bootstrap"] == 0
    assert len(results["data"]["mine"]["fingerprint"]) == 16 and "numpy" in results["versions"]
    assert json.loads((folder / "results.json").read_text()) == results
    assert len(warnings) == 1 and "no --tokenizer" in warnings[0]


def test_answer_style_says_where_the_answer_is_looked_for(serve, benchmark, tmp_path):
    results = run(options(serve(), benchmark, tmp_path / "out", answer_style="tags"), Watcher(), print)
    assert results["settings"]["answer_styles"] == {"mine": "tags"}
    assert results["tasks"]["mine"]["formatted"] == 0.0  # the server answers in boxes


def test_server_that_dies_leaves_partial_results_and_the_run_goes_on(serve, benchmark, tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(BackendError, match="does not answer any more"):
        run(options(serve(dies_after=11), benchmark, folder, concurrency=2), Watcher(), print)
    partial = json.loads((folder / "results.json").read_text())
    assert partial["partial_because"] == [f"mine: 11 of {PROBLEMS} samples, interrupted"]
    first = (folder / "outputs.jsonl").read_bytes()
    watcher = Watcher()
    results = run(options(serve(), benchmark, folder), watcher, print)
    assert (watcher.total, watcher.before, watcher.new) == (PROBLEMS, 11, PROBLEMS - 11)
    assert (folder / "outputs.jsonl").read_bytes().startswith(first)
    assert not results["partial"]
    assert results["tasks"] == run(options(serve(), benchmark, tmp_path / "at_once"), Watcher(), print)["tasks"]


def start_slowly(serve, benchmark, folder):
    """A run in a process of its own that has made at least five samples; its command too."""
    command = [sys.executable, "-m", "eval", "run", "--model", eval_server.MODEL, "--benchmark", str(benchmark)]
    command += ["--base-url", serve(delay=0.05), "--output", str(folder), "--concurrency", "1"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        # A shell's background job ignores Ctrl-C, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    outputs = folder / "outputs.jsonl"
    while not outputs.exists() or outputs.read_bytes().count(b"\n") < 5:
        assert process.poll() is None
        time.sleep(0.01)
    return process, command


def test_kill_in_the_middle_loses_nothing_and_repeats_nothing(serve, benchmark, tmp_path):
    outputs = tmp_path / "out" / "outputs.jsonl"
    process, command = start_slowly(serve, benchmark, tmp_path / "out")
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = outputs.read_bytes()
    assert 5 <= before.count(b"\n") < PROBLEMS
    os.truncate(outputs, len(before) - 7)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "COLUMNS": "160"})
    assert done.returncode == 0, done.stderr
    whole = before[: before[:-7].rfind(b"\n") + 1]
    assert outputs.read_bytes().startswith(whole)
    assert len(read_records(outputs)) == PROBLEMS


def test_interrupt_keeps_partial_results_and_says_so(serve, benchmark, tmp_path):
    process, _ = start_slowly(serve, benchmark, tmp_path / "out")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors and "goes on from there" in errors and "Traceback" not in errors
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["partial"] and 5 <= results["tasks"]["mine"]["n"] < PROBLEMS


def test_finished_run_asks_the_server_nothing(serve, benchmark, tmp_path):
    folder, url = tmp_path / "out", serve(dies_after=PROBLEMS)
    run(options(url, benchmark, folder), Watcher(), print)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run(options("http://127.0.0.1:9/v1", benchmark, folder), Watcher(), print)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_changed_setting_is_refused_with_its_name(serve, benchmark, tmp_path):
    url, folder = serve(), tmp_path / "out"
    run(options(url, benchmark, folder), Watcher(), print)
    with pytest.raises(ValueError, match=r"max_tokens: was 3000, is 100.*name another --output"):
        run(options(url, benchmark, folder, max_tokens=100), Watcher(), print)


def test_changed_data_are_refused(serve, benchmark, tmp_path):
    url, folder = serve(), tmp_path / "out"
    run(options(url, benchmark, folder), Watcher(), print)
    rows = benchmark.with_name("rows.jsonl")
    rows.write_text(rows.read_text().replace("mod 3", "modulo 3"))
    with pytest.raises(ValueError, match=r"data\.mine\.fingerprint: was"):
        run(options(url, benchmark, folder), Watcher(), print)


def test_several_samples_have_their_own_seeds_and_a_majority(serve, benchmark, tmp_path):
    results = run(options(serve(), benchmark, tmp_path / "out", n=8, temperature=1.0), Watcher(), print)
    row = results["tasks"]["mine"]
    assert row["k"] == 8 and results["average"]["maj@k"] == row["maj@k"]
    assert row["pass@1"] < row["pass@2"] < row["pass@4"] <= row["pass@8"]
    assert len({record.answer for record in read_records(tmp_path / "out" / "outputs.jsonl")}) == 3


def test_limit_is_partial_in_every_output(serve, benchmark, tmp_path):
    from rich.console import Console

    from eval.compare import compare
    from eval.show import comparison_markdown, print_results

    folder = tmp_path / "out"
    results = run(options(serve(), benchmark, folder, limit=4), Watcher(), print)
    assert results["partial"] and results["tasks"]["mine"]["n"] == 4
    console = Console(record=True, width=160)
    print_results(results, console)
    assert "Partial result" in console.export_text()
    assert "out (partial)" in comparison_markdown(compare([str(folder)]))


def test_wrong_server_and_model_are_said(serve, benchmark, tmp_path):
    with pytest.raises(BackendError, match=r"no model 'large', it serves small"):
        changed = RunOptions("large", "none", tmp_path / "a", benchmarks=[benchmark], base_url=serve())
        run(changed, Watcher(), print)
    with pytest.raises(BackendError, match="does not answer"):
        run(options("http://127.0.0.1:9/v1", benchmark, tmp_path / "b"), Watcher(), print)


@pytest.mark.parametrize("said_by", ["--address", "RAY_ADDRESS"])
def test_ray_address_without_a_cluster_is_said_at_once(said_by, monkeypatch):
    from openrlhf_ktae.generation.ray_engines import RayBackend

    nowhere = "127.0.0.1:9"
    monkeypatch.setenv("RAY_ADDRESS", nowhere if said_by == "RAY_ADDRESS" else "127.0.0.1:10")
    with pytest.raises(BackendError, match=rf"{said_by}: no Ray answers at 127\.0\.0\.1:9 "):
        RayBackend(
            EngineOptions("m", "m", None, 64, "auto", 0, 1, 0.9, None, None),
            Sampling(0.0, 1.0),
            2,
            nowhere if said_by == "--address" else None,
        )


@pytest.mark.parametrize("address", [None, "10.0.0.1:6379"])
def test_cores_are_counted_only_for_a_ray_of_its_own(address, monkeypatch):
    """Ray refuses num_cpus where it joins a cluster, also the one of RAY_ADDRESS."""
    import ray

    from openrlhf_ktae.generation import ray_engines

    asked: dict = {}

    def init(**arguments):
        asked.update(arguments)
        raise ValueError("no further")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray_engines, "check_reachable", lambda *_: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(BackendError, match="no further"):
        ray_engines.RayBackend(
            EngineOptions("m", "m", None, 64, "auto", 0, 1, 0.9, None, None), Sampling(0.0, 1.0), 2, None
        )
    assert asked["address"] == (address or "local") and ("num_cpus" in asked) == (address is None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 4}, "n: 4 samples at temperature 0 are all the same"),
        ({"temperature": -1.0}, "temperature: got -1.0"),
        ({"max_tokens": 4096}, "max-tokens: got 4096, expected 1 to 4095"),
        ({"limit": 0}, "limit: got 0"),
        ({"engines": 2}, "leave out --engines"),
        ({"template": "llama"}, "template: got 'llama', expected one of qwen_math"),
        ({"template": "chat"}, "needs the model's chat template"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_written(benchmark, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(options("http://127.0.0.1:9/v1", benchmark, tmp_path / "out", **changes), Watcher(), print)
    assert not (tmp_path / "out").exists()


def test_model_folder_without_a_tokenizer_is_refused(benchmark, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    given = {"data": "none", "output": tmp_path / "out", "benchmarks": [benchmark]}
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        run(RunOptions(str(folder), **given), Watcher(), print)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no tokenizer in this folder"):
        run(RunOptions(str(folder), **given), Watcher(), print)
    with pytest.raises(ValueError, match="is no model folder"):
        run(RunOptions(str(tmp_path / "nowhere"), **given), Watcher(), print)


def test_prompt_longer_than_the_model_is_named(serve, benchmark, tmp_path):
    make_tokenizer().save_pretrained(tmp_path / "tokenizer")
    given = {"tokenizer": str(tmp_path / "tokenizer"), "max_model_len": 150, "max_tokens": 10}
    with pytest.raises(ValueError, match=r"mine, problem 0: the prompt has 1\d\d tokens, max-model-len is 150"):
        run(options(serve(), benchmark, tmp_path / "out", **given), Watcher(), print)


def test_progress_bar_counts_a_resumed_run(capsys):
    from rich.console import Console

    console = Console(width=120, force_terminal=True)
    with GradingProgress(console) as progress:
        progress.start(4, (), "generating")
        progress.graded([])
    assert "generating" in capsys.readouterr().out
