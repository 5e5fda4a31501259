"""PVT v2 written for inference at one input size. Knows nothing about decoders or export.

The same function as timm's, in another order (batch 1, static size):

- The residual stream is (1, N, C) tokens; layer norms and linear layers see (N, C) matrices, so that every linear layer is
  one Gemm with its bias. Measured: ONNX Runtime does not fuse add + layer norm then (its fused kernel is slower), and
  OpenVINO runs the norms whole, which it does not on four axes.
- The MLP's linear layers are 1x1 convolutions around the depthwise one: the transposes move C channels and not the
  4 to 8 times wider hidden ones.
- The strided reduction convolution of the keys never overlaps itself, so it is a Gemm on patches of tokens: no transpose
  to channels-first.
- The attention's scale lives in the query weights; keys and values have weights of their own. The keys' bias adds the same
  number to a whole row of scores and softmax ignores it: gone. A row of attention sums to one, so the values' bias (and
  with a single head the whole output projection) moves into the values, of which there are few.
- Adaptive pooling (the `li` variants) is two products with constant matrices.

OpenVINO 2026.4 crashes while compiling residual additions on bare (N, C) matrices, and on (1, N, C) where single-head attention
also keeps that leading axis: change the ranks here only with a run in every runtime.

Source of the architecture: Wang et al. 2021, arXiv:2106.13797; timm/models/pvt_v2.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl.models.fold import as_point_conv, linear_from, scale_input, scaled_bias
from mtl.models.pooling import adaptive_pooling_matrix

__all__ = ["DeployPvt"]


class PooledTokens(nn.Module):
    """Tokens averaged over a 7 x 7 grid, then a linear layer, layer norm and GELU (linear attention of the `li` variants)."""

    def __init__(self, attention: nn.Module, height: int, width: int) -> None:
        super().__init__()
        grid = attention.pool.output_size
        self.size = (height, width)
        self.register_buffer("rows", adaptive_pooling_matrix(height, grid))
        self.register_buffer("columns", adaptive_pooling_matrix(width, grid))
        self.reduce = linear_from(attention.sr.weight[:, :, 0, 0], attention.sr.bias)
        self.norm, self.act = attention.norm, attention.act

    def forward(self, tokens: Tensor) -> Tensor:
        height, width = self.size
        channels = tokens.shape[1]
        x = (self.rows @ tokens.reshape(height, width * channels)).reshape(-1, width, channels)
        x = (self.columns @ x).reshape(-1, channels)
        return self.act(self.norm(self.reduce(x)))


class PatchTokens(nn.Module):
    """The strided convolution of the keys as one Gemm on patches, then layer norm."""

    def __init__(self, attention: nn.Module, height: int, width: int) -> None:
        super().__init__()
        conv: nn.Conv2d = attention.sr
        self.ratio = conv.kernel_size[0]
        self.grid = (height // self.ratio, width // self.ratio)
        self.reduce = linear_from(conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias)
        self.norm = attention.norm

    def forward(self, tokens: Tensor) -> Tensor:
        (rows, columns), ratio, channels = self.grid, self.ratio, tokens.shape[1]
        patches = tokens.reshape(rows, ratio, columns, ratio * channels).transpose(1, 2)
        return self.norm(self.reduce(patches.reshape(rows * columns, ratio * ratio * channels)))


class DeployAttention(nn.Module):
    """Attention of (N, C) queries over a reduced set of (M, C) keys and values."""

    def __init__(self, attention: nn.Module, height: int, width: int) -> None:
        super().__init__()
        channels = attention.dim
        self.heads, self.head_width = attention.num_heads, attention.head_dim
        self.reduced: nn.Module
        if attention.pool is not None:
            self.reduced = PooledTokens(attention, height, width)
        elif attention.sr is not None:
            self.reduced = PatchTokens(attention, height, width)
        else:
            self.reduced = nn.Identity()
        scale = attention.scale
        self.query = linear_from(attention.q.weight.double() * scale, scaled_bias(attention.q.bias, scale))
        key_weight, value_weight = attention.kv.weight.double().split(channels)
        self.key = linear_from(key_weight, None)
        projection, out_bias = attention.proj.weight.double(), attention.proj.bias.double()
        if attention.kv.bias is not None:
            out_bias = out_bias + projection @ attention.kv.bias.double()[channels:]
        self.project: nn.Module
        if self.heads == 1:
            self.value = linear_from(projection @ value_weight, out_bias)
            self.project = nn.Identity()
        else:
            self.value = linear_from(value_weight, None)
            self.project = linear_from(projection, out_bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, C) -> (N, C)."""
        reduced = self.reduced(tokens)
        query, key, value = self.query(tokens), self.key(reduced), self.value(reduced)
        if self.heads == 1:
            return torch.softmax(query @ key.transpose(0, 1), dim=-1) @ value
        split = (self.heads, self.head_width)
        query = query.unflatten(1, split).transpose(0, 1)
        key = key.unflatten(1, split).permute(1, 2, 0)
        value = value.unflatten(1, split).transpose(0, 1)
        mixed = torch.softmax(query @ key, dim=-1) @ value
        return self.project(mixed.transpose(0, 1).flatten(1))


class DeployMlp(nn.Module):
    """1x1 convolution, (ReLU,) depthwise 3x3, GELU, 1x1 convolution, channels first."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.expand, self.relu, self.depthwise = as_point_conv(mlp.fc1), mlp.relu, mlp.dwconv
        self.act, self.shrink = mlp.act, as_point_conv(mlp.fc2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shrink(self.act(self.depthwise(self.relu(self.expand(x)))))


class DeployBlock(nn.Module):
    """One transformer block on (1, N, C) tokens of a height x width map."""

    def __init__(self, block: nn.Module, height: int, width: int) -> None:
        super().__init__()
        self.size = (height, width)
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.attention = DeployAttention(block.attn, height, width)
        self.mlp = DeployMlp(block.mlp)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens.flatten(0, 1))).unsqueeze(0)
        return tokens + _tokens_of(self.mlp(_map_of(self.norm2(tokens.flatten(0, 1)), self.size)))


class DeployPvt(nn.Module):
    """timm's PVT v2 (its feature extractor), or some consecutive stages of it, for one input size.

    Args:
        net: the feature extractor, in evaluation; its layers are shared, so give a copy if it is still needed.
        height, width: of the image, multiples of 32.
        strides: of all its stages.
        first, last: which stages, from 0, the last one excluded; at least one.
    """

    def __init__(
        self, net: nn.Module, height: int, width: int, *, strides: Sequence[int] = (4, 8, 16, 32), first: int = 0, last: int = 4
    ) -> None:
        super().__init__()
        stages = [getattr(net, f"stages_{index}") for index in range(first, last)]
        self.embeddings = nn.ModuleList(net.patch_embed if stage.downsample is None else stage.downsample for stage in stages)
        self.sizes = [(height // stride, width // stride) for stride in strides[first:last]]
        self.blocks = nn.ModuleList(
            nn.Sequential(*(DeployBlock(block, *size) for block in stage.blocks))
            for stage, size in zip(stages, self.sizes, strict=True)
        )
        self.norms = nn.ModuleList(stage.norm for stage in stages)

    def scale_image(self, scale: Sequence[float]) -> None:
        """Let the first convolution take `image` where it took `scale * image` (one factor per channel); from stage 0 only."""
        self.embeddings[0].proj = scale_input(self.embeddings[0].proj, scale)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The image (1, 3, H, W), or the map of the stage before -> a map (1, C, H / s, W / s) per stage."""
        features = []
        for embedding, blocks, norm, size in zip(self.embeddings, self.blocks, self.norms, self.sizes, strict=True):
            tokens = blocks(embedding.norm(_tokens_of(embedding.proj(x))))
            x = _map_of(norm(tokens.flatten(0, 1)), size)
            features.append(x)
        return features


def _tokens_of(x: Tensor) -> Tensor:
    """(1, C, H, W) -> (1, H W, C)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _map_of(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(H W, C) -> (1, C, H, W)."""
    return tokens.reshape(1, *size, tokens.shape[1]).permute(0, 3, 1, 2)
