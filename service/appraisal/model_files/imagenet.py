"""How pictures are scaled for networks that began with ImageNet."""

from typing import Final

# Of red, green and blue between 0 and 1, as torchvision's published weights expect them.
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_SD: Final = (0.229, 0.224, 0.225)
