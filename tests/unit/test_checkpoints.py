"""Which checkpoints are whole, which one a run goes on from, and what is removed for a new one."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from openrlhf_ktae.checkpoints import Checkpoint, choose_checkpoint, has_checkpoint, list_checkpoints, write_manifest
from openrlhf_ktae.cli import app
from openrlhf_ktae.files import write_json
from openrlhf_ktae.run_folder import RunFolder


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path)
    write_json(folder.run_json, {"config": {"openrlhf": {"ckpt.path": str(tmp_path / "checkpoints")}}})
    for step in (3, 6, 9):
        write(tmp_path / "checkpoints" / "_actor" / f"global_step{step}")
    return folder


def write(path, manifest=True):
    (path / "deep").mkdir(parents=True)
    (path / "model.pt").write_bytes(bytes(range(200)))
    (path / "deep" / "optimizer.pt").write_bytes(bytes(300))
    if manifest:
        write_manifest(path, step=1)


def actor(run):
    return run.path / "checkpoints" / "_actor"


def harm_hash(path):
    (path / "model.pt").write_bytes(bytes(200))


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda path: (path / "deep" / "optimizer.pt").unlink(), "lacks deep/optimizer.pt"),
        (lambda path: (path / "model.pt").write_bytes(b"x"), "has 1 bytes of model.pt, 200 were written"),
        (harm_hash, "has other bytes in model.pt than were written"),
        (lambda path: (path / "manifest.json").unlink(), "has no manifest.json, so nothing says that it is whole"),
        (lambda path: (path / "manifest.json").write_text("{"), "has a manifest.json that cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_skipped_with_a_sentence(run, harm, problem):
    harm(actor(run) / "global_step9")
    said = []
    chosen = choose_checkpoint(run, said.append)
    assert chosen and chosen.tag == "global_step6"
    assert (actor(run) / "latest").read_text() == "global_step6"
    assert said == [f"Skipped a damaged checkpoint: {actor(run) / 'global_step9'} {problem}."]


def test_one_that_is_still_being_written_is_not_there(run):
    shutil.move(actor(run) / "global_step9", actor(run) / "global_step9.part")
    assert [checkpoint.step for checkpoint in list_checkpoints(actor(run))] == [3, 6]


def test_without_a_whole_one_there_is_nothing_to_go_on_from(run):
    for step in (3, 6, 9):
        (actor(run) / f"global_step{step}" / "model.pt").unlink()
    assert not has_checkpoint(run)
    assert choose_checkpoint(run, lambda sentence: None) is None


def test_a_checkpoint_from_before_manifests_counts_if_latest_names_it(run):
    write(actor(run) / "global_step12", manifest=False)
    assert Checkpoint(actor(run) / "global_step12").problem() is not None
    (actor(run) / "latest").write_text("global_step12")
    assert Checkpoint(actor(run) / "global_step12").problem() is None


def test_the_command_lists_and_verifies(run):
    harm_hash(actor(run) / "global_step6")
    result = CliRunner().invoke(app, ["checkpoints", str(run.path)], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert "has other bytes in model.pt" in result.output and "2 whole, 1 damaged" in result.output
    shutil.rmtree(actor(run) / "global_step6")
    assert CliRunner().invoke(app, ["checkpoints", str(run.path)]).exit_code == 0
    assert CliRunner().invoke(app, ["checkpoints", str(run.path / "none")]).exit_code == 2


def test_the_manifest_names_every_file_with_its_size(run):
    files = json.loads((actor(run) / "global_step3" / "manifest.json").read_text())["files"]
    assert {name: said["bytes"] for name, said in files.items()} == {"model.pt": 200, "deep/optimizer.pt": 300}
