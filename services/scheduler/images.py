"""Which images are on which nodes."""

from collections.abc import Iterable

from tillerman.pb.k8s import core_v1_pb2 as core


class ImageTable:
    def __init__(self) -> None:
        # name -> (bytes, rows)
        self._images: dict[str, tuple[int, set[int]]] = {}
        self._of_row: dict[int, frozenset[str]] = {}

    def set_node(self, row: int, images: Iterable[core.ContainerImage]) -> bool:
        """True if the node's images changed."""
        sizes = {normalized(name): image.sizeBytes for image in images for name in image.names}
        names = frozenset(sizes)
        before = self._of_row.get(row, frozenset())
        if names == before:
            return False
        for name in before - names:
            self._images[name][1].discard(row)
            if not self._images[name][1]:
                del self._images[name]
        for name in names - before:
            known = self._images.get(name)
            if known is None:
                self._images[name] = (sizes[name], {row})
            else:
                known[1].add(row)
        self._of_row[row] = names
        return True

    def find(self, image: str) -> tuple[int, set[int]]:
        """(size in bytes, rows that have it)."""
        return self._images.get(normalized(image), (0, set()))


def normalized(image: str) -> str:
    """With the tag that no tag means."""
    if "@" not in image and ":" not in image.rsplit("/", 1)[-1]:
        return image + ":latest"
    return image
