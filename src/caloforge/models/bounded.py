"""A limit on the memory of a model that is built as its file describes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from caloforge.errors import ModelError

# A model builds parts that its file does not hold (critics), and tables.
FACTOR, SPARE = 64, 512 << 20


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the memory of all new tensors."""

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most, self.used = most, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            given = {_place(a) for a in args if isinstance(a, Tensor)}
            if _place(result) not in given:
                self.used += result.untyped_storage().nbytes()
        if self.used > self.most:
            raise ModelError(
                f"the model that it describes takes more than {self.most:.2g} bytes, which its "
                "weights do not fill; expected an untouched file of `caloforge train`."
            )
        return result


@contextmanager
def bounded_by(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """What is built in this block takes at most FACTOR times the memory of `tensors`, and SPARE
    bytes.

    Raises
    ------
    ModelError
        As soon as more memory was asked for; a tensor that is not filled yet takes none.
    """
    held = sum(value.untyped_storage().nbytes() for value in tensors.values())
    with _Bounded(FACTOR * held + SPARE):
        yield


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
