"""OpenRLHF's DeepSpeed strategy, with gradients that add up over the micro batches of an update."""

from typing import Any

from openrlhf.utils.deepspeed import DeepspeedStrategy

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
