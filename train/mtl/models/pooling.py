"""Adaptive average pooling as two products with constant matrices, which every runtime has.

An exporter turns `nn.AdaptiveAvgPool2d` into long gathers wherever its windows differ in size. Knows torch, not the networks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["MatrixPool", "adaptive_pooling_matrix", "fix_adaptive_pools"]


def adaptive_pooling_matrix(inputs: int, outputs: int) -> Tensor:
    """(outputs, inputs) float32: the means of torch's adaptive average pooling along one axis."""
    matrix = torch.zeros(outputs, inputs, dtype=torch.float64)
    for row in range(outputs):
        first, last = row * inputs // outputs, -((-(row + 1) * inputs) // outputs)
        matrix[row, first:last] = 1.0 / (last - first)
    return matrix.float()


class MatrixPool(nn.Module):
    """`nn.AdaptiveAvgPool2d` for maps of one size: (B, C, H, W) to (B, C, h, w)."""

    def __init__(self, size: tuple[int, int], output: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("rows", adaptive_pooling_matrix(size[0], output[0]))
        self.register_buffer("columns_t", adaptive_pooling_matrix(size[1], output[1]).T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        return self.rows @ x @ self.columns_t


def fix_adaptive_pools(network: nn.Module, example: Tensor) -> None:
    """Replace, in place, every adaptive average pooling to more than one cell by the same for the size that it meets.

    Args:
        network: of any kind; it runs once, without gradients.
        example: an input of the size that the network is to be exported for.
    """
    pools = {name: module for name, module in network.named_modules() if isinstance(module, nn.AdaptiveAvgPool2d)}
    pools = {name: module for name, module in pools.items() if module.output_size not in (1, (1, 1))}
    if not pools:
        return
    sizes: dict[nn.Module, tuple[int, int]] = {}

    def remember(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes[module] = (inputs[0].shape[-2], inputs[0].shape[-1])

    hooks = [module.register_forward_pre_hook(remember) for module in pools.values()]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    for name, module in pools.items():
        height, width = sizes[module]
        asked = module.output_size if isinstance(module.output_size, tuple) else (module.output_size, module.output_size)
        output = (asked[0] or height, asked[1] or width)  # None keeps the size of that axis
        network.set_submodule(name, MatrixPool((height, width), output))
