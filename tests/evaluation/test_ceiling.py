"""The Bayes ceiling: metrics of the truth."""

import numpy as np

from sasrecllm.evaluation.ceiling import bayes_ceiling


def test_the_ceiling_is_measured_as_a_model_is():
    p = np.array([0.9, 0.1, 0.8, 0.3])
    labels = np.array([1, 0, 0, 1], dtype=np.int8)
    users, new = np.array([0, 0, 1, 1]), np.array([False, False, True, True])
    found = bayes_ceiling(p, labels, users, new)
    assert found == {"auc": 0.75, "uauc": 0.5, "auc_new_items": 0.0}
    assert bayes_ceiling(p, labels, users, new & False)["auc_new_items"] is None
