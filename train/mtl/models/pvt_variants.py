"""PVT v2 b0 made cheaper in some ways, each a model of timm by name: `pvt_v2_b0_bn`, `_li`, `_s8`, `_bn_s8` and `_bn_relu`.

- `bn`: batch norm in place of layer norm, everywhere. In inference it is a factor and an offset per channel, which the next
  linear layer takes in.
- `relu`: ReLU in place of GELU, which is computed in floating point between layers of integers.
- `li`: linear attention: keys are 7 x 7 means of the map (the authors' `b2_li`, at the width of b0).
- `s8`: the stem goes to stride 8 at once, so that the first stage sees a quarter of the pixels; the second one keeps the size.
  Strides are 8, 8, 16, 32, and what reads strides 8, 16 and 32 needs no change.

Source of the architecture: Wang et al. 2021, arXiv:2106.13797. Batch norm in such a network: Yao et al. 2021 (Leveraging Batch
Normalization for Vision Transformers). No weights of these were published.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.pvt_v2 import OverlapPatchEmbed, PyramidVisionTransformerV2
from torch import Tensor, nn

__all__ = ["PVT_VARIANTS", "TokenBatchNorm"]

PVT_VARIANTS: tuple[str, ...] = ("pvt_v2_b0_bn", "pvt_v2_b0_li", "pvt_v2_b0_s8", "pvt_v2_b0_bn_s8", "pvt_v2_b0_bn_relu")

_B0: dict[str, Any] = {
    "depths": (2, 2, 2, 2),
    "embed_dims": (32, 64, 160, 256),
    "num_heads": (1, 2, 5, 8),
    "mlp_ratios": (8, 8, 4, 4),
}
_STEM_KERNEL, _STEM_STRIDE = 11, 8

default_cfgs = generate_default_cfgs({name: {"first_conv": "patch_embed.proj", "classifier": "head"} for name in PVT_VARIANTS})
"""Under the name that timm looks for: it warns of models without one."""


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch norm of tokens: over all axes but the last one, (..., C) to (..., C)."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return super().forward(x.reshape(-1, x.shape[-1])).reshape(x.shape)


class PvtVariant(PyramidVisionTransformerV2):
    """timm's PVT v2 with another norm, another first stride, another activation.

    Args:
        batch_norm: `TokenBatchNorm` in place of every layer norm.
        coarse_stem: strides of 8, 8, 16, 32 in place of 4, 8, 16, 32.
        relu: in place of GELU.
        options: of `PyramidVisionTransformerV2`.
    """

    def __init__(self, *, batch_norm: bool = False, coarse_stem: bool = False, relu: bool = False, **options: Any) -> None:
        if coarse_stem:
            options["sr_ratios"] = (4, 4, 2, 1)
        super().__init__(**options)
        if coarse_stem:
            dims = options["embed_dims"]
            self.patch_embed = OverlapPatchEmbed(_STEM_KERNEL, _STEM_STRIDE, 3, dims[0])
            self.stages[1].downsample = OverlapPatchEmbed(3, 1, dims[0], dims[1])
            for embedding in (self.patch_embed, self.stages[1].downsample):
                embedding.apply(self._init_weights)
            self.feature_info[0]["reduction"] = _STEM_STRIDE
        for name, module in list(self.named_modules()):
            if batch_norm and isinstance(module, nn.LayerNorm):
                self.set_submodule(name, TokenBatchNorm(module.normalized_shape[0]))
            if relu and isinstance(module, nn.GELU):
                self.set_submodule(name, nn.ReLU())


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> PvtVariant:
    """As timm makes its own PVT v2; `options` may change what it is made of."""
    features = {"flatten_sequential": True, "out_indices": options.pop("out_indices", tuple(range(4)))}
    return build_model_with_cfg(PvtVariant, name, pretrained, feature_cfg=features, **_B0 | options)


@register_model
def pvt_v2_b0_bn(pretrained: bool = False, **options: Any) -> PvtVariant:
    """With batch norm."""
    return _create("pvt_v2_b0_bn", pretrained, {"batch_norm": True} | options)


@register_model
def pvt_v2_b0_li(pretrained: bool = False, **options: Any) -> PvtVariant:
    """With linear attention."""
    return _create("pvt_v2_b0_li", pretrained, {"linear": True} | options)


@register_model
def pvt_v2_b0_s8(pretrained: bool = False, **options: Any) -> PvtVariant:
    """With a stem of stride 8."""
    return _create("pvt_v2_b0_s8", pretrained, {"coarse_stem": True} | options)


@register_model
def pvt_v2_b0_bn_s8(pretrained: bool = False, **options: Any) -> PvtVariant:
    """With batch norm and a stem of stride 8."""
    return _create("pvt_v2_b0_bn_s8", pretrained, {"batch_norm": True, "coarse_stem": True} | options)


@register_model
def pvt_v2_b0_bn_relu(pretrained: bool = False, **options: Any) -> PvtVariant:
    """With batch norm and ReLU."""
    return _create("pvt_v2_b0_bn_relu", pretrained, {"batch_norm": True, "relu": True} | options)
