"""StyleGAN2's generator in plain numpy, written from the paper, slow and independent of torch."""

from __future__ import annotations

import numpy as np
from scipy.signal import correlate2d

FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64.0


def lrelu(x):
    return np.where(x > 0, x, 0.2 * x) * np.sqrt(2)


def linear(x, weight, bias, lr_mul=1.0, active=False):
    y = x @ (weight * lr_mul / np.sqrt(weight.shape[1])).T + bias * lr_mul
    return lrelu(y) if active else y


def upfirdn(plane, kernel, up, pad):
    """One (H, W) plane."""
    spread = np.zeros((plane.shape[0] * up, plane.shape[1] * up))
    spread[::up, ::up] = plane
    spread = np.pad(spread, pad)
    return correlate2d(spread, kernel[::-1, ::-1], mode="valid")


def modulated(x, style, weight, mod_weight, mod_bias, *, demodulate=True, upsample=False):
    """(C, H, W) of one picture."""
    outputs, inputs, k, _ = weight.shape
    scales = linear(style, mod_weight, mod_bias)
    w = weight / np.sqrt(inputs * k * k) * scales[None, :, None, None]
    if demodulate:
        w = w / np.sqrt((w**2).sum((1, 2, 3), keepdims=True) + 1e-8)
    if upsample:
        # Transposed convolution of stride 2: zeros between samples, full convolution.
        spread = np.zeros((inputs, 2 * x.shape[1] - 1, 2 * x.shape[2] - 1))
        spread[:, ::2, ::2] = x
        full = np.stack(
            [
                sum(correlate2d(spread[i], w[o, i, ::-1, ::-1], mode="full") for i in range(inputs))
                for o in range(outputs)
            ]
        )
        return np.stack([upfirdn(plane, FILTER * 4, 1, (1, 1)) for plane in full])
    mode_pad = k // 2
    padded = np.pad(x, ((0, 0), (mode_pad, mode_pad), (mode_pad, mode_pad)))
    return np.stack(
        [sum(correlate2d(padded[i], w[o, i], mode="valid") for i in range(inputs)) for o in range(outputs)]
    )


def styled(p, name, x, style, noise, *, upsample=False):
    y = modulated(
        x, style, p[f"{name}.conv.weight"][0], p[f"{name}.conv.modulation.weight"],
        p[f"{name}.conv.modulation.bias"], upsample=upsample,
    )  # fmt: skip
    y = y + p[f"{name}.noise.weight"][0] * noise
    return lrelu(y + p[f"{name}.activate.bias"][:, None, None])


def to_rgb(p, name, x, style, skip):
    y = modulated(
        x, style, p[f"{name}.conv.weight"][0], p[f"{name}.conv.modulation.weight"],
        p[f"{name}.conv.modulation.bias"], demodulate=False,
    )  # fmt: skip
    y = y + p[f"{name}.bias"][0]
    return y if skip is None else y + np.stack([upfirdn(plane, FILTER * 4, 2, (2, 1)) for plane in skip])


def mapping(p, z, layers):
    """What each layer gives, by its name."""
    x = z / np.sqrt((z**2).mean() + 1e-8)
    made = {"style.0": x}
    for i in range(1, layers + 1):
        x = linear(x, p[f"style.{i}.weight"], p[f"style.{i}.bias"], 0.01, active=True)
        made[f"style.{i}"] = x
    return made


def synthesis(p, styles, noise, levels):
    """What each layer gives, by its name, from (n, D) styles and one (s, s) noise map a layer."""
    x = styled(p, "conv1", p["input.input"][0], styles[0], noise[0])
    colour = to_rgb(p, "to_rgb1", x, styles[1], None)
    made = {"conv1": x, "to_rgb1": colour}
    for level in range(levels):
        a, b = 2 * level, 2 * level + 1
        x = styled(p, f"convs.{a}", x, styles[a + 1], noise[a + 1], upsample=True)
        made[f"convs.{a}"] = x
        x = styled(p, f"convs.{b}", x, styles[b + 1], noise[b + 1])
        made[f"convs.{b}"] = x
        colour = to_rgb(p, f"to_rgbs.{level}", x, styles[a + 3], colour)
        made[f"to_rgbs.{level}"] = colour
    return made
