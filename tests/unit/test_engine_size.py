"""How many responses an engine decodes at once, in training and in evaluation."""

import inspect
import json
from types import SimpleNamespace

import openrlhf_parts  # noqa: F401  (stands in for CUDA where there is none)
import pytest
from vllm import AsyncEngineArgs, EngineArgs
from vllm.config.scheduler import SchedulerConfig

from openrlhf_ktae import engine_size
from openrlhf_ktae.config import EngineOptions, RunOptions
from openrlhf_ktae.generation import EngineOptions as EvaluationEngine
from openrlhf_ktae.generation import engine as evaluation
from openrlhf_ktae.training import cpu, rollout_actor
from openrlhf_ktae.training.options import TrainingOptions

# Qwen2.5-Math-7B as its config.json says.
QWEN_7B = SimpleNamespace(num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4, hidden_size=3584)
GIVEN = {"model": "m", "gpu_memory_utilization": 0.6, "max_model_len": 4096, "tensor_parallel_size": 1}


def test_a_token_takes_its_keys_and_values_of_every_layer():
    assert engine_size.key_value_bytes(QWEN_7B) == 2 * 28 * 4 * 128 * 2
    assert engine_size.key_value_bytes(QWEN_7B, tensor_parallel=8) == 2 * 28 * 1 * 128 * 2
    older = SimpleNamespace(num_hidden_layers=1, num_attention_heads=2, hidden_size=8)  # no grouped queries
    assert engine_size.key_value_bytes(older) == 2 * 2 * 4 * 2


def test_the_published_7b_run_decodes_what_its_cache_holds():
    # 0.6 x 80e9 - 2 x 7.6e9 - 4 GiB = 28.5e9 bytes; a response takes 2048 x 57,344 = 117.4e6: 242.8 fit, so 192.
    assert engine_size.responses_at_once(7_600_000_000, QWEN_7B, 80e9, 0.6, 4096) == 192


@pytest.mark.parametrize(("gpu_bytes", "expected"), [(20e9, engine_size.FEWEST), (2000e9, engine_size.MOST)])
def test_the_number_has_bounds(gpu_bytes, expected):
    assert engine_size.responses_at_once(7_600_000_000, QWEN_7B, gpu_bytes, 0.6, 4096) == expected


def options(device: str = "gpu", **engine: int) -> TrainingOptions:
    return TrainingOptions("run", RunOptions(device=device), {"engine": EngineOptions(**engine).model_dump()})


@pytest.fixture
def cache_of_300(monkeypatch):
    monkeypatch.setattr(
        rollout_actor, "responses_of_engine", lambda *given: 300 if given == (*GIVEN.values(), False) else 0
    )
    monkeypatch.setattr(evaluation, "responses_of_engine", lambda *given: 300 + given[3] if not given[4] else 0)


def test_training_engines_get_the_number_unless_the_user_says_another(cache_of_300):
    made = rollout_actor.engine_arguments(options(), GIVEN)
    assert made == {"disable_log_stats": True, "max_num_batched_tokens": 8192, "max_num_seqs": 300}
    said = rollout_actor.engine_arguments(options(max_num_seqs=77, max_num_batched_tokens=4096), GIVEN)
    assert (said["max_num_seqs"], said["max_num_batched_tokens"]) == (77, 4096)
    assert rollout_actor.engine_arguments(options("cpu"), GIVEN) == cpu.ENGINE
    assert rollout_actor.engine_arguments(options("cpu", max_num_seqs=77), GIVEN)["max_num_seqs"] == 77
    assert made.keys() <= inspect.signature(AsyncEngineArgs).parameters.keys()


def test_evaluation_engines_get_it_too(cache_of_300):
    engine = EvaluationEngine("m", "m", None, 4096, "bfloat16", 0, 2, 0.9, None, None)
    assert evaluation.gpu_arguments(engine) == {"max_num_seqs": 302, "max_num_batched_tokens": 8192}
    assert evaluation.gpu_arguments(engine).keys() <= inspect.signature(EngineArgs).parameters.keys()
    assert evaluation.WINDOW > engine_size.MOST  # the engine is never empty


def test_vllm_itself_would_decode_128_at_once():
    """The reason; it can go where vLLM looks at its cache."""
    assert (SchedulerConfig.DEFAULT_MAX_NUM_SEQS, SchedulerConfig.DEFAULT_MAX_NUM_BATCHED_TOKENS) == (128, 2048)


CODE = """
from transformers import Qwen2Config, Qwen2ForCausalLM

class MyConfig(Qwen2Config):
    model_type = "mine"

class MyModel(Qwen2ForCausalLM):
    config_class = MyConfig
"""
TINY = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 64, "vocab_size": 100}  # fmt: skip


@pytest.fixture
def arguments_of(tmp_path, monkeypatch):
    """Engine arguments of a training run and of an evaluation for a folder with a configuration, on a GPU of 80 GB."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("vllm.platforms.current_platform.get_device_total_memory", lambda *_: 80e9, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody answers in a worker"))

    def made(config, trust_remote_code=False):
        model = tmp_path / "model"
        model.mkdir()
        (model / "config.json").write_text(json.dumps(config))
        (model / "mine.py").write_text(CODE)
        run = RunOptions(device="gpu", trust_remote_code=trust_remote_code)
        training = TrainingOptions("run", run, {"engine": EngineOptions().model_dump()})
        name = str(model)
        engine = EvaluationEngine(name, name, None, 4096, "bfloat16", 0, 1, 0.6, None, None, trust_remote_code)
        both = (
            rollout_actor.engine_arguments(training, GIVEN | {"model": str(model)}),
            evaluation.gpu_arguments(engine),
        )
        return [arguments["max_num_seqs"] for arguments in both]

    return made


def test_a_model_that_brings_code_is_counted_where_its_code_may_run(arguments_of, caplog):
    code = {"AutoConfig": "mine.MyConfig", "AutoModelForCausalLM": "mine.MyModel"}
    config = TINY | {"model_type": "mine", "auto_map": code}
    assert arguments_of(config, trust_remote_code=True) == [engine_size.MOST] * 2
    assert "contains custom code" not in caplog.text


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"], "text_config": TINY},
        {"model_type": "no_such_model"},
    ],
    ids=["images", "unknown"],
)
def test_a_model_whose_size_nobody_can_tell_gets_vllms_own_number(arguments_of, caplog, config):
    assert arguments_of(config) == [None, None]
    assert caplog.text.count("vLLM decodes its own number of responses at once (128)") == 2
    assert "set engine.max_num_seqs (--max-num-seqs in an evaluation)" in caplog.text
    assert inspect.signature(EngineArgs).parameters["max_num_seqs"].default is None
