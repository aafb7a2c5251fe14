"""OpenRLHF's DeepSpeed strategy: gradients add up over the micro batches of an update, checkpoints are whole."""

from typing import Any

from openrlhf.utils.deepspeed import DeepspeedStrategy

from openrlhf_ktae.training import checkpoint_writer
from openrlhf_ktae.training.options import TrainingOptions


class Strategy(DeepspeedStrategy):
    """Gives DeepSpeed's accumulation to the caller where batches are dynamic.

    With dynamic batches OpenRLHF tells DeepSpeed one micro batch an update, calls ``backward`` for each of several and
    ``step`` after the last one. DeepSpeed 0.19.6 takes every such ``backward`` for the last and, under ZeRO-1 and 2,
    starts anew with the next (runtime/zero/stage_1_and_2.py:944-971): the update is the last micro batch's gradient
    alone. With ``managed_gradient_accumulation: false`` every ``step`` ends an update, whatever the number before it.
    """

    def __init__(self, *args: Any, options: TrainingOptions | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

    def get_ds_train_config(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """DeepSpeed's configuration of a model that is trained."""
        config = super().get_ds_train_config(*args, **kwargs)
        if self.use_dynamic_batch:
            config["managed_gradient_accumulation"] = False
        return config

    def save_ckpt(
        self, model, save_dir, tag=None, max_num=3, max_mem=1000, client_state=None, save_latest=True,
        metric_value=None, metric_key=None,
    ) -> None:  # fmt: skip
        """A checkpoint that is whole or absent."""
        metric = (metric_value, metric_key)
        checkpoint_writer.save(self, model, save_dir, str(tag), max_num, max_mem, client_state or {}, metric)

    def load_ckpt(self, model, load_dir, *args: Any, **kwargs: Any) -> Any:
        """As upstream, and the states of this worker's random generators."""
        path, states = super().load_ckpt(model, load_dir, *args, **kwargs)
        if path:
            checkpoint_writer.restore_from(path, self.get_rank())
        return path, states
