"""PVT v2 with batch norm, written for inference at one input size: channels first from end to end, convolutions only.

The same function as the trained network's, in another order (batch 1, static size):

- Every batch norm but those at the end of a stage joins the convolution before it or the linear layers after it.
- All linear layers are 1x1 convolutions, so that the residual stream stays (1, C, H, W) and nothing is transposed: the two
  products of attention read their operands transposed, which runtimes do inside the product.
- Scale, keys' bias and values' bias as in `deploy_pvt`.

Source of the architecture: see `pvt_variants`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl.models.deploy_pvt import DeployMlp
from mtl.models.fold import as_point_conv, conv_from, fold_norm, linear_from, norm_affine, scale_input, scaled_bias

__all__ = ["DeployBatchNormPvt"]


class MapAttention(nn.Module):
    """Attention of the H W pixels of a map over those of a reduced one; the batch norm before it is inside.

    Args:
        attention: timm's, with or without a reduction; not its linear kind.
        norm: the batch norm of what it reads.
    """

    def __init__(self, attention: nn.Module, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        self.heads, self.head_width = attention.num_heads, attention.head_dim
        factor, offset = norm_affine(norm)
        scale = attention.scale
        self.query = _point_conv(attention.q.weight.double() * scale, scaled_bias(attention.q.bias, scale), norm)
        self.reduce: nn.Module = nn.Identity()
        key_weight, value_weight = attention.kv.weight.double().split(attention.dim)
        kv_bias = attention.kv.bias
        value_bias = torch.zeros_like(offset) if kv_bias is None else kv_bias.double()[attention.dim :]
        if attention.sr is not None:
            weight = attention.sr.weight.double()
            bias = attention.sr.bias.double() + (weight * offset[None, :, None, None]).sum(dim=(1, 2, 3))
            inner = conv_from(weight * factor[None, :, None, None], bias, like=attention.sr)
            self.reduce = fold_norm(inner, attention.norm)
        else:
            value_bias = value_bias + value_weight @ offset
            key_weight, value_weight = key_weight * factor, value_weight * factor
        self.key = _as_conv(key_weight, None)
        self.value = _as_conv(value_weight, None)
        projection, bias = attention.proj.weight.double(), attention.proj.bias.double()
        self.project = _as_conv(projection, bias + projection @ value_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) -> (1, C, H, W)."""
        split = (self.heads, self.head_width, -1)
        reduced = self.reduce(x)
        query = self.query(x).reshape(split)
        key, value = self.key(reduced).reshape(split), self.value(reduced).reshape(split)
        shares = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        return self.project((value @ shares.transpose(1, 2)).reshape(x.shape))


class MapBlock(nn.Module):
    """One transformer block on a map."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.attention = MapAttention(block.attn, block.norm1)
        self.mlp = DeployMlp(block.mlp)
        self.mlp.expand = _point_conv(block.mlp.fc1.weight.double(), block.mlp.fc1.bias, block.norm2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)


class MapNorm(nn.Module):
    """A batch norm on its own: a factor and an offset per channel."""

    def __init__(self, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        factor, offset = norm_affine(norm)
        self.factor: Tensor
        self.offset: Tensor
        self.register_buffer("factor", factor.float().reshape(1, -1, 1, 1))
        self.register_buffer("offset", offset.float().reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.offset


class DeployBatchNormPvt(nn.Module):
    """The feature extractor of a variant with batch norm, or some consecutive stages of it.

    Args:
        net: the feature extractor, in evaluation; its layers are shared, so give a copy if it is still needed.
        first, last: which stages, from 0, the last one excluded; at least one.
    """

    def __init__(self, net: nn.Module, *, first: int = 0, last: int = 4) -> None:
        super().__init__()
        stages = [getattr(net, f"stages_{index}") for index in range(first, last)]
        embeddings = [net.patch_embed if stage.downsample is None else stage.downsample for stage in stages]
        self.embeddings = nn.ModuleList(fold_norm(embedding.proj, embedding.norm) for embedding in embeddings)
        self.blocks = nn.ModuleList(nn.Sequential(*(MapBlock(block) for block in stage.blocks)) for stage in stages)
        self.norms = nn.ModuleList(MapNorm(stage.norm) for stage in stages)

    def scale_image(self, scale: Sequence[float]) -> None:
        """Let the first convolution take `image` where it took `scale * image` (one factor per channel); from stage 0 only."""
        self.embeddings[0] = scale_input(self.embeddings[0], scale)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The image (1, 3, H, W), or the map of the stage before -> a map (1, C, h, w) per stage."""
        features = []
        for embedding, blocks, norm in zip(self.embeddings, self.blocks, self.norms, strict=True):
            x = norm(blocks(embedding(x)))
            features.append(x)
        return features


def _point_conv(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm1d) -> nn.Conv2d:
    """A 1x1 convolution equal to the linear layer (float64 `weight`) of the normalised tokens."""
    factor, offset = norm_affine(norm)
    shift = weight @ offset
    return _as_conv(weight * factor, shift if bias is None else bias.double() + shift)


def _as_conv(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    return as_point_conv(linear_from(weight, bias))
