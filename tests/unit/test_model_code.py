"""A model that brings Python code: every command that loads one refuses it, and runs the code where it is told to."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_code import add_code
from typer.testing import CliRunner

from eval import cli as eval_cli
from eval.model import check_context, fingerprint, load_tokenizer
from eval.options import RunOptions
from eval.run import make_backend
from openrlhf_ktae import cli
from openrlhf_ktae.generation import EngineOptions, Sampling
from openrlhf_ktae.generation.engine import Engine
from openrlhf_ktae.hub import check_code
from openrlhf_ktae.runs import merge
from openrlhf_ktae.runs.values import ValuesOptions, make_values
from openrlhf_ktae.tasks.tiny_model import make_model, make_tokenizer, save


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch, tmp_path):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("Transformers asked on the terminal"))


@pytest.fixture
def marker(tmp_path) -> Path:
    """Is there once the model's code ran."""
    return tmp_path / "ran"


@pytest.fixture
def model(tmp_path, marker) -> Path:
    folder = tmp_path / "model"
    save(make_model(0, max_length=64), make_tokenizer(), folder)
    add_code(folder, marker)
    return folder


def one_prompt(folder: Path) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text(json.dumps({"input": "1+1+0+0+0+0=", "label": "2", "datasource": "arithmetic"}) + "\n")
    return path


def arguments_of(command: str, model: Path, folder: Path) -> list[str]:
    checkpoint, prompts = folder / "global_step1", one_prompt(folder)
    checkpoint.mkdir()
    (checkpoint / "zero_pp_rank_0_mp_rank_00_model_states.pt").touch()
    return {
        "merge": ["merge", str(checkpoint), str(folder / "merged"), "--base", str(model)],
        "values": ["data", "values", str(prompts), "--model", str(model), "--output", str(folder / "out.jsonl"),
                   "--task", "arithmetic"],
        "eval": ["run", "--model", str(model), "--output", str(folder / "out"), "--max-model-len", "64",
                 "--max-tokens", "8"],
    }[command]  # fmt: skip


@pytest.mark.parametrize("command", ["merge", "values", "eval"])
def test_it_is_refused_with_the_option_that_allows_it(command, model, marker, tmp_path):
    app = eval_cli.app if command == "eval" else cli.app
    done = CliRunner().invoke(app, arguments_of(command, model, tmp_path))
    said = " ".join(done.output.split())
    assert done.exit_code == 2
    assert "brings code of its own (config.json: auto_map)" in said and "then pass --trust-remote-code" in said
    assert not marker.exists()


@pytest.mark.parametrize("command", ["merge", "values"])
def test_a_model_that_is_not_there_is_named(command, tmp_path):
    done = CliRunner().invoke(cli.app, arguments_of(command, Path("no/such/model"), tmp_path))
    assert done.exit_code == 2 and "no/such/model is no model folder" in " ".join(done.output.split())


def test_a_tokenizer_of_another_model_is_checked_too(model, tmp_path):
    plain = tmp_path / "plain"
    save(make_model(0, max_length=64), make_tokenizer(), plain)
    benchmark = tmp_path / "mine.yaml"
    (tmp_path / "mine.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n')
    benchmark.write_text("name: mine\npath: mine.jsonl\ncolumns: {problem: problem, answer: answer}\n")
    arguments = ["run", "--model", str(plain), "--output", str(tmp_path / "out"), "--max-model-len", "64",
                 "--max-tokens", "8", "--benchmark", str(benchmark)]  # fmt: skip
    done = CliRunner().invoke(eval_cli.app, [*arguments, "--tokenizer", str(model)])
    assert done.exit_code == 2 and "tokenizer: " in done.output and "brings code of its own" in done.output


def test_evaluation_runs_the_code_where_it_may(model, marker):
    check_code("model", str(model), True)
    check_context(str(model), None, 64, trust_remote_code=True)
    assert marker.exists()
    assert load_tokenizer(str(model), None, trust_remote_code=True).encode("1")


def test_a_hub_models_commit_is_read_without_its_code(tmp_path, monkeypatch, marker):
    commit = "0" * 40
    snapshot = tmp_path / "hub" / "models--some--model" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(commit)
    (snapshot / "config.json").write_text(json.dumps({"architectures": ["Qwen3ForCausalLM"]}))
    add_code(snapshot, marker)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert fingerprint("some/model", None) == commit and not marker.exists()


def test_merging_runs_the_code_where_it_may(model, marker):
    made = merge._empty_model(str(model), torch.bfloat16, trust_remote_code=True)
    assert (marker.exists(), type(made).__name__, made.dtype) == (True, "MyModel", torch.bfloat16)


class Told(Exception):
    """Ends a command where an engine would start."""


@pytest.mark.parametrize("may_run", [True, False])
def test_the_engine_is_told(monkeypatch, tmp_path, may_run):
    asked: list[EngineOptions] = []

    def engine(options, sampling):
        asked.append(options)
        raise Told

    monkeypatch.setattr("openrlhf_ktae.generation.engine.Engine", engine)
    with pytest.raises(Told):
        make_backend(RunOptions("m", "d", tmp_path, trust_remote_code=may_run))
    save(make_model(0), make_tokenizer(), tmp_path / "plain")
    options = ValuesOptions(one_prompt(tmp_path), str(tmp_path / "plain"), tmp_path / "out.jsonl", 1, 8, "arithmetic")
    with pytest.raises(Told):
        make_values(replace(options, trust_remote_code=may_run))
    assert [one.trust_remote_code for one in asked] == [may_run] * 2


def test_an_engine_passes_it_to_vllm(monkeypatch):
    given = {}

    def arguments(**all_of_them):
        given.update(all_of_them)
        raise Told

    monkeypatch.setattr("vllm.EngineArgs", arguments)
    with pytest.raises(Told):
        Engine(EngineOptions("m", "m", None, 64, "auto", 0, 1, 0.9, 1, None, True), Sampling(0.0, 1.0))
    assert given["trust_remote_code"] is True


def test_a_configuration_that_is_no_json_is_named(model):
    for text in ("{", "[]"):
        (model / "tokenizer_config.json").write_text(text)
        (model / "config.json").write_text("{}")
        with pytest.raises(ValueError, match=r"tokenizer_config\.json: (no JSON|expected a JSON object)"):
            check_code("model", str(model), False)
