"""What is learnt: the contract between the one loop and its tasks."""

from __future__ import annotations

from torch import Tensor, nn

from sasrecllm.types import FloatArray, IntArray

Metrics = dict[str, float | None]


class Task(nn.Module):
    """What is learnt: a module whose ``forward`` gives the summed loss of some examples.

    An example is what is shuffled (a window of a user's history, a prompt, a document); it carries
    ``weights[i]`` questions.  Each question weighs the same in every step: a step follows the gradient
    of its summed loss over the questions of a mean batch.  Parameters with ``requires_grad`` learn; all
    others are frozen.  Every process begins a step with the same seed; a task whose random numbers
    belong to rows draws them by :mod:`sasrecllm.ops.draws`, so that they are the whole batch's.
    """

    name: str
    monitor: str
    lower_is_better: bool = False
    lengths: IntArray  # [E] cost of each example, for batches of like length
    weights: FloatArray  # [E] questions in each example
    prefix_ids: IntArray | None = None  # [E] equal numbers: examples that begin alike
    n_validation: int
    beside: int = 1
    """Validation questions that stand side by side and begin alike."""

    def forward(self, examples: IntArray) -> Tensor:
        """Loss summed over the questions of ``examples``, a scalar."""
        raise NotImplementedError

    def learn(self) -> None:
        """Training mode for what learns; what is frozen stays in evaluation mode."""
        raise NotImplementedError

    def validation_scores(self, positions: IntArray) -> FloatArray:
        """A number for each validation row in ``positions``; called in evaluation mode."""
        raise NotImplementedError

    def validation_metrics(self, scores: FloatArray) -> Metrics:
        """Metrics of the whole validation split, of which ``monitor`` chooses the best state."""
        raise NotImplementedError

    def trainable(self) -> dict[str, nn.Parameter]:
        """Name and parameter of everything that learns."""
        return {n: p for n, p in self.named_parameters() if p.requires_grad}
