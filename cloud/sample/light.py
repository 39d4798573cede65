"""Where the light comes from, and what a surface makes of it."""

from dataclasses import dataclass

import numpy as np

from cloud.sample.ink import Floats


@dataclass(frozen=True, slots=True)
class Light:
    """One soft lamp: `side` is -1 (left) to 1 (right), `ambient` the share of light from all sides."""

    side: float = -0.5
    ambient: float = 0.66
    level: float = 1.03

    @property
    def direction(self) -> tuple[float, float, float]:
        """Return the unit vector toward the lamp: right, down, toward the camera."""
        vector = np.asarray([self.side, -0.55, 0.8])
        x, y, z = vector / np.linalg.norm(vector)
        return float(x), float(y), float(z)


def bump(values: Floats, center: float, width: float) -> Floats:
    """Return a smooth hill of height 1 over `center`, zero farther away than `width`."""
    share = np.clip(1 - np.abs(values - center) / width, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def diffuse(normal: tuple[Floats, Floats, Floats], light: Light) -> Floats:
    """Return how bright a matte surface with unit normals looks, about 0.5 to 1.1."""
    x, y, z = light.direction
    lit = np.clip(normal[0] * x + normal[1] * y + normal[2] * z, 0, 1)
    return np.asarray((light.ambient + (1.12 - light.ambient) * lit) * light.level, np.float32)
