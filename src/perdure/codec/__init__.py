"""Values to bytes and back, exactly: msgpack through cattrs, explicit type names and versions.

    codec = Codec(TypeRegistry([OrderState]))
    encoded = codec.encode(OrderPlaced("o-1", 100))
    codec.decode(encoded.type, encoded.version, encoded.body)

Knows messages and errors, and nothing of sagas, stores or actors. Read ``codec.py`` first.
"""

from perdure.codec.codec import Codec, Encoded
from perdure.codec.limits import Limits, check_limits
from perdure.codec.registry import TypeRegistry

__all__ = ["Codec", "Encoded", "Limits", "TypeRegistry", "check_limits"]
