"""A model folder that brings Python code, as some on the Hub do."""

import json
from pathlib import Path

_CODE = """
from pathlib import Path
from transformers import {base}Config, {base}ForCausalLM

Path({marker!r}).touch()

class MyConfig({base}Config):
    model_type = "mine"

class MyModel({base}ForCausalLM):
    config_class = MyConfig
"""


def add_code(model: Path, marker: Path) -> None:
    """Makes a saved model one that only its own code can load; the code leaves ``marker`` behind when it runs."""
    path = model / "config.json"
    config = json.loads(path.read_text())
    base = config["architectures"][0].removesuffix("ForCausalLM")
    code = {"AutoConfig": "mine.MyConfig", "AutoModelForCausalLM": "mine.MyModel"}
    path.write_text(json.dumps(config | {"model_type": "mine", "auto_map": code}))
    (model / "mine.py").write_text(_CODE.format(base=base, marker=str(marker)))
