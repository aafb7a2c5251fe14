"""The reference actor: OpenRLHF's, on a port that no other run takes and nobody else sees."""

import openrlhf.trainer.ray.launcher as launcher

from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.overrides import install, plain_class
from openrlhf_ktae.training.ports import hold_port


class ReferenceActor(plain_class(launcher.ReferenceModelActor)):
    """OpenRLHF's reference actor."""

    _get_free_port = staticmethod(hold_port)

    def __init__(self, *args, options: TrainingOptions, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        install("reference", options)
