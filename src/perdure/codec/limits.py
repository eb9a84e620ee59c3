"""How much one encoded value may hold, checked on its bytes before any object is built.

A few bytes can claim billions of elements, or nest so deeply that reading them exhausts memory or
stack. This module walks the msgpack structure without building anything. It knows no types and no
codec. Next to read: ``wire.py``, which turns the checked bytes into objects.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.errors import LimitExceeded

__all__ = ["Limits", "check_limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds of one encoded message, state or value.

        Codec(registry, Limits(bytes_max=4_194_304))

    ``bytes_max`` in bytes; ``elements_max`` counts every value, map key and container;
    ``depth_max`` counts containers inside each other, a message's own map being the first.
    """

    bytes_max: int = 1_048_576
    elements_max: int = 100_000
    depth_max: int = 64


def check_limits(data: bytes, limits: Limits) -> None:
    """Raise ``LimitExceeded`` if the encoded value is larger than the limits allow.

        check_limits(body, Limits())

    Bytes that are no valid msgpack pass: the decoder refuses them.
    """
    size = len(data)
    if size > limits.bytes_max:
        raise LimitExceeded(
            f"{size} bytes, the limit is {limits.bytes_max}", remedy="store a reference instead"
        )
    if size <= limits.elements_max:
        # Cheap bounds first; most messages need no more. A header may claim up to `size` elements,
        # for which the decoder reserves room at once: the product bounds that room when such
        # headers are nested.
        containers = size - len(data.translate(None, _CONTAINER_MARKERS))
        if containers <= limits.depth_max and containers * size <= 8 * limits.elements_max:
            return
    _scan(data, limits)


_CONTAINER_MARKERS = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
_MALFORMED, _LENGTH_FOLLOWS, _CONTAINER = 0, -1, -2


def _fixed_sizes() -> tuple[int, ...]:
    """Per first byte: the size of the whole element, or one of the three marks above."""
    sizes = [1] * 256
    sizes[0x80:0xA0] = [_CONTAINER] * 0x20
    sizes[0xA0:0xC0] = range(1, 0x21)
    sizes[0xC1] = _MALFORMED
    sizes[0xC4:0xCA] = [_LENGTH_FOLLOWS] * 6
    sizes[0xCA:0xD4] = [5, 9, 2, 3, 5, 9, 2, 3, 5, 9]
    sizes[0xD4:0xD9] = [3, 4, 6, 10, 18]
    sizes[0xD9:0xDC] = [_LENGTH_FOLLOWS] * 3
    sizes[0xDC:0xE0] = [_CONTAINER] * 4
    return tuple(sizes)


_FIXED = _fixed_sizes()
# First byte -> (bytes of the length, further bytes before the content)
_LENGTHS = {
    **{0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0)},
    **{0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)},
    **{0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)},
}


def _scan(data: bytes, limits: Limits) -> None:
    """Walk the elements one by one; stops quietly where the bytes are malformed or end early."""
    position, size = 0, len(data)
    elements = remaining = 1
    above: list[int] = []  # for each open container: what remains of the one around it
    while position < size:
        while remaining == 0:
            if not above:
                return
            remaining = above.pop()
        remaining -= 1
        first = data[position]
        step = _FIXED[first]
        if step > 0:
            position += step
        elif step == _CONTAINER:
            count, header = _container(data, position, first)
            position += header
            elements += count
            above.append(remaining)
            remaining = count
            _refuse_excess(elements, len(above), limits)
        elif step == _LENGTH_FOLLOWS:
            width, extra = _LENGTHS[first]
            length = int.from_bytes(data[position + 1 : position + 1 + width])
            position += 1 + width + extra + length
        else:
            return


def _container(data: bytes, position: int, first: int) -> tuple[int, int]:
    """How many elements an array or map claims (a map: keys and values), and its header's size."""
    if first < 0x90:
        return 2 * (first & 0x0F), 1
    if first < 0xA0:
        return first & 0x0F, 1
    width = 2 if first in (0xDC, 0xDE) else 4
    count = int.from_bytes(data[position + 1 : position + 1 + width])
    return (2 * count if first >= 0xDE else count), 1 + width


def _refuse_excess(elements: int, depth: int, limits: Limits) -> None:
    if elements > limits.elements_max:
        raise LimitExceeded(
            f"more than {limits.elements_max} elements", remedy="split it, or store a reference"
        )
    if depth > limits.depth_max:
        raise LimitExceeded(
            f"nested deeper than {limits.depth_max} levels", remedy="flatten it, or raise depth_max"
        )
