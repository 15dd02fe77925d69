"""Learning rates, parameter groups and the moving average, by hand."""

import pytest
import torch
from torch import nn

from detection.training.optimizer import OptimizerOptions, moving_average, parameter_groups, set_learning_rate


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"body": nn.Linear(2, 2)})
        self.head = nn.Linear(2, 1)


def test_the_backbone_learns_slower_and_biases_do_not_decay():
    model = Small()
    options = OptimizerOptions(learning_rate=1.0, backbone_lr_multiplier=0.25, weight_decay=0.1)
    groups = parameter_groups(model, options)
    found = {(g["peak"], g["weight_decay"]): sum(p.numel() for p in g["params"]) for g in groups}
    assert found == {(0.25, 0.1): 4, (0.25, 0.0): 2, (1.0, 0.1): 2, (1.0, 0.0): 1}
    model.head.bias.requires_grad_(False)
    groups = parameter_groups(model, options)
    assert sum(p.numel() for g in groups for p in g["params"]) == 8


@pytest.mark.parametrize(
    ("progress", "factor"), [(0.0, 0.01), (0.05, 0.5), (0.1, 1.0), (0.55, 0.01 + 0.99 * 0.5), (1.0, 0.01)]
)
def test_the_learning_rate_over_the_run(progress, factor):
    model = Small()
    options = OptimizerOptions(learning_rate=2.0, backbone_lr_multiplier=0.5, weight_decay=0)
    optimizer = torch.optim.AdamW(parameter_groups(model, options))
    assert set_learning_rate(optimizer, progress, warmup=0.1) == pytest.approx(2.0 * factor)
    assert {round(group["lr"], 9) for group in optimizer.param_groups} == {round(2.0 * factor, 9), round(factor, 9)}


def test_a_young_average_forgets_fast_and_an_old_one_slowly():
    model = nn.Linear(1, 1, bias=False)
    average = moving_average(model, decay=0.5)
    values, expected = [], 0.0
    for step, weight in enumerate((1.0, 3.0, 2.0, 8.0, 5.0, 5.0, 9.0, 1.0, 4.0, 0.0, 6.0)):
        with torch.no_grad():
            model.weight.fill_(weight)
        average.update_parameters(model)
        decay = min(0.5, (1 + step) / (10 + step))  # the first is taken as it is
        expected = weight if step == 0 else decay * expected + (1 - decay) * weight
        values.append((average.module.weight.item(), expected))
    assert all(found == pytest.approx(by_hand, rel=1e-5) for found, by_hand in values)
    assert model.weight.item() == 6.0


def test_statistics_of_batch_norm_are_the_latest():
    model = nn.BatchNorm1d(1)
    average = moving_average(model, decay=0.9)
    model.running_mean.fill_(7.0)  # type: ignore[union-attr, operator]
    average.update_parameters(model)
    assert average.module.running_mean.item() == 7.0  # type: ignore[union-attr, operator]
