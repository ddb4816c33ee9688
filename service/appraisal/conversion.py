"""Foreign model files, once and offline, as safetensors that load without running code.

NVIDIA's StyleGAN2 pickles (`.pkl`), rosinality's StyleGAN2 checkpoints (`.pt`, `.pth`) and the
quantised MobileNetV2 of TensorFlow Lite (`.tflite`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from service.appraisal.methods.stylegan2.generator import generator_from
from service.appraisal.methods.stylegan2.nvidia import read_nvidia_pickle
from service.appraisal.model_files.mobilenet_tflite import load_mobilenet
from service.appraisal.model_files.models import load_tensors
from service.errors import ConfigurationError, StorageError


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A model file that was written."""

    path: Path
    sha256: str  # of the file written
    source_sha256: str  # of the file read; also in the metadata of the one written
    content: str  # what it is, in words
    tensors: int


def convert_model(source: Path, target: Path, *, half: bool = False) -> Converted:
    """Write a foreign model as safetensors.

    Args:
        source: `.pkl`, `.pt`, `.pth` or `.tflite`.
        target: The `.safetensors` file to write.
        half: Store the numbers in half precision.

    Raises:
        ConfigurationError: Another kind of file, or a target of another suffix.
        UnsafeModelError: The file asks for code to be run, or is damaged.
        ModelIntegrityError: It holds no network that we can run.
        StorageError: The target cannot be written.
    """
    if target.suffix != ".safetensors":
        raise ConfigurationError(f"{target}: converted models are .safetensors")
    tensors, content = _read(source)
    digest = _sha256(source)
    kept = {name: (t.half() if half and t.is_floating_point() else t) for name, t in tensors.items()}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        save_file(
            {name: tensor.contiguous() for name, tensor in kept.items()},
            part,
            metadata={"converted_from_sha256": digest},
        )
        part.replace(target)
    except OSError as exc:
        raise StorageError(f"{target}: {exc}") from exc
    return Converted(
        path=target, sha256=_sha256(target), source_sha256=digest, content=content, tensors=len(kept)
    )


def _read(source: Path) -> tuple[dict[str, Tensor], str]:
    if not source.is_file():
        raise ConfigurationError(f"{source}: no such file")
    match source.suffix:
        case ".tflite":
            return load_mobilenet(source), "MobileNetV2"
        case ".pkl":
            tensors = read_nvidia_pickle(source)
        case ".pt" | ".pth":
            tensors = load_tensors(source, key="g_ema")
        case suffix:
            raise ConfigurationError(
                f"{source}: {suffix or 'no suffix'}: .pkl, .pt, .pth or .tflite expected"
            )
    generator = generator_from(tensors)  # refuses what is no generator
    shape = generator.shape
    content = f"StyleGAN2 generator, {shape.size} px, {shape.mapping_layers} mapping layers"
    return dict(generator.state_dict()), content


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
