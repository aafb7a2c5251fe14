"""What a merged model's card says of a run; it is published with the weights."""

import json

import torch

from openrlhf_ktae.checkpoints import Checkpoint
from openrlhf_ktae.files import write_json
from openrlhf_ktae.run_folder import MetricsLog, RunFolder
from openrlhf_ktae.runs.merge import Merged, model_card

OPENRLHF = {
    "actor.model_name_or_path": "/home/alice/models/tiny",
    "data.prompt_dataset": "owner/name, /home/alice/secret/train.jsonl@train,/home/alice/more.jsonl",
    "data.input_template": "Answer, /no_think {}",
    "reward.remote_url": "http://judge:8000/score",
    "actor.eps_clip_low_high": [0.2, 0.28],
}
METHODS = {"terms": ["ktae", "/home/alice/secret/my_term.py"]}
MY_TERM = {"tables": {"words": "/home/alice/secret/words.txt"}, "weight": 1.0, "pairs": [["/home/alice/a", 2]]}


def card(tmp_path, recipe="/home/alice/recipes/my_recipe", tag="global_step2"):
    run = RunFolder(tmp_path)
    config = {"openrlhf": OPENRLHF, "run": {"output_dir": "/home/alice"}, "advantage": METHODS, "my_term": MY_TERM}
    versions = {"openrlhf": "0.11.2"}
    write_json(run.run_json, {"name": "mine", "recipe": recipe, "seed": 7, "versions": versions, "config": config})
    log = MetricsLog(run, first_step=0)
    for step in (1, 2, 3):
        log.write("train", step, {"rollout/accuracy": step / 10, "timing/total": 1.0})
    checkpoint = Checkpoint(tmp_path / "checkpoints" / "_actor" / tag)
    return model_card(Merged(checkpoint, run), "/home/alice/models/tiny", torch.bfloat16)


def test_a_card_holds_no_local_folder(tmp_path):
    text = card(tmp_path)
    assert "alice" not in text and "secret" not in text
    options = json.loads(text.partition("```json\n")[2].partition("```")[0])
    assert options == {
        "openrlhf": OPENRLHF | {
            "actor.model_name_or_path": "tiny",
            "data.prompt_dataset": "owner/name, train.jsonl@train,more.jsonl",
        },
        "advantage": {"terms": ["ktae", "my_term.py"]},
        "my_term": {"tables": {"words": "words.txt"}, "weight": 1.0, "pairs": [["a", 2]]},
    }  # fmt: skip
    assert "- Data: owner/name, train.jsonl@train,more.jsonl\n" in text and "- Trained from: tiny\n" in text


def test_a_recipe_is_named_without_its_folder(tmp_path):
    assert "- Recipe: my_recipe\n" in card(tmp_path)
    assert "- Recipe: long.yaml\n" in card(tmp_path, "recipes/my_recipe/long.yaml")


def test_metrics_are_those_of_the_checkpoints_step(tmp_path):
    assert "## Training, step 2\n" in card(tmp_path) and "| rollout/accuracy | 0.2 |" in card(tmp_path)
    assert "| rollout/accuracy | 0.1 |" in card(tmp_path, tag="best_global_step1")
    assert "| rollout/accuracy | 0.3 |" in card(tmp_path, tag="final")  # a tag without a step
    assert "timing/total" not in card(tmp_path)
