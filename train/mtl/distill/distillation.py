"""The teachers of a run, as a training step needs them: distances by task, and the pull of features on the backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edge_mtl.tasks import Specs
from mtl.distill.answers import Teacher, distances
from mtl.distill.features import FeatureTeacher
from mtl.settings import DistillSettings, LossSettings

__all__ = ["Distillation"]


class Distillation(nn.Module):
    """See the module. Its parameters and its state are what is learnt with the network and dropped with it.

    Args:
        teachers: what each of them is, for records: its role, its file's name and digest, and what it says of itself.
    Attributes:
        tasks: those that a teacher has answers of.
        teachers: as given.
    """

    def __init__(
        self,
        settings: DistillSettings,
        specs: Specs,
        *,
        answers: Teacher | None = None,
        features: FeatureTeacher | None = None,
        teachers: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__()
        self.teachers = tuple(teachers)
        self.tasks = answers.tasks if answers is not None else ()
        self.features = features
        self._settings, self._answers = settings, answers
        self._specs = {task: spec for task, spec in specs.items() if task in self.tasks}

    def prepared(self, device: torch.device) -> Distillation:
        """The same one, where the network is."""
        if self._answers is not None:
            self._answers.to(device)
        if self.features is not None:
            self.features.prepared(device)
        return self.train()

    def taught(self, source: str) -> frozenset[str]:
        """The tasks whose answers are learnt on frames of this source of a mixture; "" where there is only one."""
        return frozenset(self.tasks) if not self._settings.sources or source in self._settings.sources else frozenset()

    @property
    def pulls(self) -> bool:
        """Whether features are taught."""
        return self.features is not None and self._settings.features_weight > 0

    def distances(self, image: Tensor, answers: Mapping[str, Any], losses: LossSettings) -> dict[str, Tensor]:
        """By taught task, the weighted distance of the answers from the teacher's.

        Args:
            image: (B, 3, H, W) float RGB in 0..255.
            answers: of the network.
        """
        if self._answers is None:
            return {}
        wanted = self._answers(image, answers)
        found = distances(self._specs, answers, wanted, losses, temperature=self._settings.temperature)
        return {task: self._settings.weights.get(task, 1.0) * value for task, value in found.items()}

    def pull(self, image: Tensor, features: Sequence[Tensor], *, share: float) -> float:
        """Teach features: the gradient goes into the projections at once, and into the backbone with that of the tasks.

        However the losses of the tasks are weighed, this gradient is added to theirs as it is, once: where the backward pass
        leaves `features` for the backbone.

        Args:
            features: of the network, before they are tapped, with their graph.
            share: what gradients are multiplied by, see `Weighting.backward`.
        Returns:
            The loss, without its weight.
        """
        assert self.features is not None
        own = [feature.detach().requires_grad_() for feature in features]
        with torch.enable_grad(), torch.autocast(image.device.type, enabled=False):
            error = self.features(image, own)
            (error * (share * self._settings.features_weight)).backward()
        for feature, copy in zip(features, own, strict=True):
            extra = copy.grad
            if extra is not None:
                feature.register_hook(lambda gradient, extra=extra: gradient + extra)
        return float(error.detach())
