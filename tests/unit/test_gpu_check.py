"""Which checks of the GPU path run where, what is said of them, and the tool chain behind them."""

import json
from pathlib import Path

import pytest

from openrlhf_ktae.openrlhf_options import check, parse, to_argv
from openrlhf_ktae.recipe import resolve
from openrlhf_ktae.runs import gpu_check, toolchain
from openrlhf_ktae.runs.batch_sizes import batch_plan

ROOT = Path(__file__).resolve().parents[2]
CHECKS = {check.name: check for check in gpu_check.CHECKS}


def machine(device="gpu", gpus=8, flash_attn=True, folder=Path("runs/x")):
    return gpu_check.Machine(device, gpus, flash_attn, folder)


def skipped(where: gpu_check.Machine, verdict: str = "passed") -> dict[str, str]:
    before = dict.fromkeys(CHECKS, verdict)
    reasons = {name: gpu_check.why_skipped(one, where, before) for name, one in CHECKS.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def test_eight_gpus_with_flash_attn_skip_nothing():
    assert skipped(machine()) == {}


def test_one_gpu_skips_what_takes_two():
    found = skipped(machine(gpus=1))
    assert found["train, separate engines"] == "needs 2 GPUs, this machine has 1"
    assert gpu_check.ZERO_2 not in found and "kernel" not in found


def test_without_flash_attn_its_own_line_is_skipped_alone():
    assert list(skipped(machine(flash_attn=False))) == ["train, without flash-attn"]


def test_without_a_gpu_kernel_training_merge_and_evaluation_are_left():
    left = set(CHECKS) - set(skipped(machine("cpu", 0, False)))
    assert left == {
        "kernel", "train, separate engines", "train, asynchronous", "merge, separate engines",
        "evaluate, separate engines",
    }  # fmt: skip
    assert set(skipped(machine("cpu", 0, False)).values()) == {"needs a GPU"}


def test_what_works_on_a_result_is_skipped_with_it():
    assert skipped(machine(), "failed")["merge, ZeRO-3"] == f"needs the result of: {gpu_check.ZERO_3}"


@pytest.mark.parametrize("name", [name for name in CHECKS if name.startswith("train")])
@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_every_training_check_is_a_run_that_openrlhf_accepts(name, device, monkeypatch):
    one = CHECKS[name]
    if device == "cpu" and not one.on_cpu:
        return
    command = one.command(machine(device))
    recipe, overrides = command[4], command[6::2]
    config = resolve(ROOT / recipe, overrides)
    args = check(config.openrlhf_argv("runs/x"))
    plan = batch_plan(parse(to_argv(config.openrlhf_settings("runs/x"))))
    assert config.run.device == device and args.rollout.batch_size * 2 == args.data.max_samples
    assert plan.gpus_total <= max(one.gpus, 2)
    if name == gpu_check.ZERO_3:
        assert args.ds.zero_stage == 3
    if "separate" in name:
        assert set(plan.gpus) == {"policy", "vLLM"} and not args.vllm.enable_sleep
    if "asynchronous" in name:
        assert args.train.async_enable


def test_results_say_why_and_go_into_the_file(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    commands = (
        gpu_check.Check("good", lambda _: ["sh", "-c", "echo 'measured: 3 ms'"], on_cpu=True),
        gpu_check.Check("bad", lambda _: ["sh", "-c", "echo; echo 'ValueError: no luck'; exit 4"], on_cpu=True),
        gpu_check.Check("after", lambda _: ["false"], on_cpu=True, after="bad"),
    )
    monkeypatch.setattr(gpu_check, "CHECKS", commands)
    assert gpu_check.gpu_check_command("cpu", tmp_path / "out.json", [], {"machine": []}) == 1
    written = json.loads((tmp_path / "out.json").read_text())
    assert [(one["verdict"], one["reason"]) for one in written["checks"]] == [
        ("passed", "3 ms"),
        ("failed", "ValueError: no luck"),
        ("skipped", "needs the result of: bad"),
    ]
    assert "no luck" in written["checks"][1]["log"] and written["versions"]
    assert "failed" in capsys.readouterr().out
    assert gpu_check.gpu_check_command("cpu", tmp_path / "out.json", ["good"], {}) == 0
    assert gpu_check.gpu_check_command("cpu", tmp_path / "out.json", ["none of them"], {}) == 1


def test_no_gpu_is_an_input_error(monkeypatch, capsys):
    monkeypatch.setattr("openrlhf_ktae.runs.gpus.gpus_here", list)
    assert gpu_check.gpu_check_command("gpu", Path("nowhere.json"), [], {}) == 2
    assert "no GPU here" in capsys.readouterr().out


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Stand-ins for nvidia-smi, nvcc and gcc; returns a function that changes what one prints."""

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho '{text}'\n")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path) + ":/usr/bin:/bin")
    write("nvidia-smi", "580.65.06")
    write("nvcc", "Cuda compilation tools, release 13.0, V13.0.88")
    write("gcc", "12.2.0")
    return write


def test_a_matching_tool_chain_is_right(programs):
    found = {what: (text, right) for what, text, right in toolchain.toolchain("13.0")}
    assert [found[what] for what in ("driver", "nvcc", "gcc")] == [
        ("580.65.06", True),
        ("13.0", True),
        ("12.2.0", True),
    ]
    assert found["ninja"][1]


@pytest.mark.parametrize(
    ("program", "printed", "what", "said"),
    [
        ("nvidia-smi", "550.90.07", "driver", "550.90.07 (CUDA 13 needs 580 or newer)"),
        ("nvcc", "release 12.8, V12.8.1", "nvcc", "12.8 (torch needs CUDA 13: install its toolkit)"),
        ("nvidia-smi", "", "driver", " (CUDA 13 needs 580 or newer)"),
    ],
)
def test_what_does_not_match_cuda_is_said(programs, program, printed, what, said):
    programs(program, printed)
    found = {what: (text, right) for what, text, right in toolchain.toolchain("13.0")}
    assert found[what] == (said, False)
