"""`openrlhf-ktae data values`: what is written, what survives a death in the middle, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openrlhf_ktae.cli import app
from openrlhf_ktae.generation import BackendError, Completion
from openrlhf_ktae.losses.a_star import read_values
from openrlhf_ktae.runs.values import ValuesOptions, make_values, values_command
from openrlhf_ktae.tasks.arithmetic import DATASOURCE
from openrlhf_ktae.tasks.tiny_model import make_model, make_tokenizer, save

PROMPTS = ("1+1+0+0+0+0=", "2*3+0+0+0+0=", "9-9+1+0+0+0=")
LABELS = ("2", "6", "1")


class Parrot:
    """Responses without a model: the first ``row + 1`` samples of a row answer 2, the others 6."""

    def __init__(self, engine, dies_after=None, then=BackendError("the engine died")):
        self.engine, self.dies_after, self.then = engine, dies_after, then
        self.requests = []
        self.is_closed = False

    def generate(self, requests):
        tokenizer = make_tokenizer()
        for number, request in enumerate(requests):
            if number == self.dies_after:
                raise self.then
            self.requests.append(request)
            _, row, sample = request.key
            text = f"so #{2 if sample <= row else 6}"
            ids = (*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id)
            yield [Completion(request.key, text, len(ids), "stop" if sample else "length", ids)]

    def close(self):
        self.is_closed = True


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save(make_model(0), make_tokenizer(), folder)
    return folder


@pytest.fixture
def options(model, tmp_path):
    rows = [{"input": p, "label": a, "datasource": DATASOURCE} for p, a in zip(PROMPTS, LABELS, strict=True)]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ("grader.answer_style=hash", "grader.correct=2", "grader.wrong=-1")
    return ValuesOptions(path, str(model), tmp_path / "out" / "values.jsonl", 4, 16, "arithmetic", settings)


def run(options, **parrot):
    made = []

    def backend(engine):
        made.append(Parrot(engine, **parrot))
        return made[-1]

    try:
        return make_values(options, backend), made
    finally:
        assert all(one.is_closed for one in made)


def written(options):
    return [json.loads(line) for line in options.output.read_text().splitlines()]


def samples(options):
    lines = (options.output.parent / "values.jsonl.samples").read_text().splitlines()
    return [tuple(json.loads(line)[:2]) for line in lines[1:]]


def test_the_prompt_set_comes_back_with_the_rewards_of_every_sample(options):
    said, [parrot] = run(options)
    rows = written(options)
    assert [row["rewards"] for row in rows] == [[2, -1, -1, -1], [-1, -1, 2, 2], [-1, -1, -1, -1]]
    assert [{k: v for k, v in row.items() if k != "rewards"} for row in rows] == [
        json.loads(line) for line in options.prompts.read_text().splitlines()
    ]
    assert "4 samples each; 25.0 % correct, mean reward -0.250; 0 prompts always solved, 1 never; " in said
    assert "25.0 % of the samples were cut off" in said and "broke" not in said
    assert parrot.engine.max_model_len == len(PROMPTS[0]) + 16
    assert {request.max_tokens for request in parrot.requests} == {16}
    assert len({request.seed for request in parrot.requests}) == 12
    values = read_values(options.output, "input", 0.5)
    assert set(values) == set(PROMPTS) and values[PROMPTS[2]] == -1


def test_samples_are_those_of_the_model_as_it_is(options, monkeypatch):
    asked = []

    def start(engine, sampling):
        asked.append((sampling.temperature, sampling.top_p))
        return Parrot(engine)

    monkeypatch.setattr("openrlhf_ktae.generation.engine.LocalBackend", start)
    make_values(options)
    assert asked == [(1, 1)]


@pytest.mark.parametrize("then", [BackendError("the engine died"), KeyboardInterrupt()], ids=["engine", "ctrl-c"])
def test_what_was_graded_before_an_end_is_neither_lost_nor_drawn_again(options, then):
    with pytest.raises(type(then)):
        run(options, dies_after=5, then=then)
    assert len(samples(options)) == 5 and not options.output.exists()
    _, [second] = run(options)
    assert len(second.requests) == 7
    assert sorted(samples(options)) == [(row, sample) for row in range(3) for sample in range(4)]
    resumed = options.output.read_bytes()
    whole = replace(options, output=options.output.parent / "whole.jsonl")
    run(whole)
    assert whole.output.read_bytes() == resumed


def test_a_line_that_was_cut_off_is_drawn_again(options):
    run(options)
    log = options.output.parent / "values.jsonl.samples"
    log.write_bytes(log.read_bytes()[:-7])
    _, [second] = run(options)
    assert len(second.requests) == 1 and len(samples(options)) == 12


def test_a_finished_command_starts_no_engine_again(options):
    run(options)
    options.output.unlink()
    _, made = run(options)
    assert made == [] and len(written(options)) == 3


@pytest.mark.parametrize(
    "change", [{"samples": 5}, {"seed": 1}, {"max_tokens": 8}, {"settings": ()}, {"dtype": "float32"}]
)
def test_samples_of_other_settings_are_not_mixed(options, change):
    run(options)
    with pytest.raises(ValueError, match=r"holds samples drawn with other settings \((.*) was .*, is "):
        run(replace(options, **change))


def test_two_commands_do_not_write_the_same_samples(options):
    from openrlhf_ktae.runs.sample_log import SampleLog

    with (
        SampleLog(options.output.with_name("values.jsonl.samples"), {}),
        pytest.raises(ValueError, match="another process"),
    ):
        run(options)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"samples": 0}, "--samples, --max-tokens: got 0 and 16"),
        ({"settings": ("rollout.batch_size=3",)}, r"--set rollout.batch_size: expected an option of the reward"),
        ({"settings": ("grader.correct=x",)}, r"--set: correct: Input should be a valid number"),
        ({"task": "arithmetics"}, "did you mean arithmetic"),
        ({"output": Path("values.txt")}, r"--output: got values\.txt, expected a name that ends in \.jsonl"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, change, said):
    with pytest.raises(ValueError, match=said):
        run(replace(options, **change))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "prompts.jsonl does not exist; name a prompt set"),
        ("", "is empty"),
        ("x\n", "line 1: not JSON"),
        ('{"input": "1="}\n', "'label' is no column of"),
        ('{"input": "1=", "label": ""}\n', "1 of 1 labels unusable: row 1"),
    ],
)
def test_prompt_sets_that_cannot_be_used_are_refused_by_the_command(options, capsys, text, said):
    options.prompts.unlink() if text is None else options.prompts.write_text(text)
    assert values_command(options) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_prompts_may_stand_in_any_file_of_rows(options):
    prompts = options.prompts.with_suffix(".json")
    prompts.write_text(json.dumps([json.loads(line) for line in options.prompts.read_text().splitlines()]))
    run(replace(options, prompts=prompts))
    assert [row["input"] for row in written(options)] == list(PROMPTS)


def test_data_without_a_command_is_what_it_was(options, tmp_path):
    source = tmp_path / "own.jsonl"
    source.write_text(json.dumps({"problem": "1+1?", "answer": "2"}) + "\n")
    for arguments in (["out.jsonl", "--source"], ["make", "out.jsonl", "--source"]):
        result = CliRunner().invoke(
            app, ["data", *[str(tmp_path / a) if a.endswith("l") else a for a in arguments], str(source)]
        )
        assert result.exit_code == 0, result.output
        assert json.loads((tmp_path / "out.jsonl").read_text())["label"] == "2"
    assert "Missing argument" in CliRunner().invoke(app, ["data"]).output
    help_text = CliRunner().invoke(app, ["data", "--help"]).output
    assert "make" in help_text and "values" in help_text
    assert "--samples" in CliRunner().invoke(app, ["data", "values", "--help"], env={"COLUMNS": "200"}).output


def test_prompts_that_were_never_solved_can_be_left_out(options):
    run(options)
    said, made = run(replace(options, skip_unsolved=True))
    assert made == [] and "1 never and left out" in said
    assert [row["input"] for row in written(options)] == list(PROMPTS[:2])
    options.prompts.write_text(options.prompts.read_text().splitlines(keepends=True)[2])
    with pytest.raises(ValueError, match="no prompt was ever solved"):
        run(replace(options, skip_unsolved=True, output=options.output.with_name("other.jsonl")))


def test_what_a_task_makes_for_itself_is_made_first(options, tmp_path):
    made = tmp_path / "made"
    settings = (f"arithmetic.directory={made}", "arithmetic.warmup_steps=0", "arithmetic.train_problems=2",
                "arithmetic.evaluation_problems=1", "grader.answer_style=hash")  # fmt: skip
    run(replace(options, prompts=made / "train.jsonl", model=str(made / "model"), settings=settings))
    assert len(written(options)) == 2 and (made / "model" / "config.json").is_file()
