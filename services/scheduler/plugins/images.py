"""ImageLocality: prefers nodes that already have the pod's images, so far as the images are large."""

import numpy as np

from services.scheduler.arrays import Floats, Mask, Rows
from services.scheduler.plugins.base import MAX_SCORE, Plugin, Scope
from services.scheduler.snapshot import Snapshot
from services.scheduler.template import Template

MIB = 1024 * 1024
NEGLIGIBLE = 23 * MIB
LARGE_PER_CONTAINER = 1000 * MIB


class ImageLocality(Plugin):
    name = "ImageLocality"
    scope = Scope.NODES

    def score(self, pod: Template, snapshot: Snapshot, rows: Rows, feasible: Mask) -> Floats | None:
        present = np.zeros(snapshot.size, dtype=np.float64)
        for image in pod.images:
            size, having = snapshot.images.find(image)
            if having:
                # An image that few nodes have counts for less, lest its nodes attract everything.
                present[list(having)] += size * len(having) / max(snapshot.node_count, 1)
        if not present.any():
            return None
        large = LARGE_PER_CONTAINER * max(len(pod.images), 1)
        clipped = np.clip(present, NEGLIGIBLE, large)
        return ((clipped - NEGLIGIBLE) * (MAX_SCORE / (large - NEGLIGIBLE)))[rows]
