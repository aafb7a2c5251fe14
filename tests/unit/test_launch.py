"""What the launcher hands to Ray."""

import json

from openrlhf_ktae.training.launch import worker_environment


def test_variables_of_the_submitted_job_are_left_to_it(monkeypatch):
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    alone = worker_environment("gpu", {})
    assert (alone["HF_HOME"], alone["NCCL_DEBUG"]) == ("/models", "INFO")
    job = {"runtime_env": {"env_vars": {"HF_HOME": "/models"}}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    assert worker_environment("gpu", {}) == {name: value for name, value in alone.items() if name != "HF_HOME"}
