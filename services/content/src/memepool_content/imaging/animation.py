"""Animations as sequences of frames that are made when the encoder asks for them."""

from collections.abc import Callable

from PIL import Image

FRAME_MS_MIN = 20
FRAME_MS_DEFAULT = 100


def frame_duration_ms(image: Image.Image) -> int:
    """How long the loaded frame shows. Browsers show what claims less than 20 ms for 100 ms."""
    duration_ms = round(float(image.info.get("duration", 0)))
    return duration_ms if duration_ms >= FRAME_MS_MIN else FRAME_MS_DEFAULT


class Frames(Image.Image):
    """An image of `n_frames` frames for Pillow's encoders; only the current one is in memory."""

    def __init__(self, count: int, frame: Callable[[int], Image.Image]) -> None:
        super().__init__()
        self.n_frames = count
        self.is_animated = count > 1
        self._frame = frame
        self._index = -1
        self.seek(0)

    def seek(self, frame: int) -> None:
        """Make that frame the current one."""
        if frame != self._index:
            current = self._frame(frame)
            self._index = frame
            self.im = current.im
            self._mode = current.mode
            self._size = current.size

    def tell(self) -> int:
        """The index of the current frame."""
        return self._index
