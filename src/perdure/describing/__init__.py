"""What sagas and work queues declare, as values, as diagrams, and judged; nothing is run.

    found = describe([OrderFulfilment, trip, payments])
    print(markdown(found))                          # Mermaid, to be pasted into Markdown
    for warning in check(found):
        print(warning)                              # OrderFulfilment: no-timeout: it has no …

``perdure describe`` and ``perdure check`` print the same in a shell. Knows no runtime, no store and
no terminal. What only the code of a saga says, such as which commands it sends, is not guessed.
Next to read: ``description.py``, the values; ``describe.py``, who makes them; ``mermaid.py``;
``check.py``, the rules.
"""

from perdure.describing.check import RULES, Ignored, Warned, check
from perdure.describing.describe import describe
from perdure.describing.description import Description, Kind, Queue, Saga
from perdure.describing.mermaid import diagram, markdown

__all__ = [
    "RULES",
    "Description",
    "Ignored",
    "Kind",
    "Queue",
    "Saga",
    "Warned",
    "check",
    "describe",
    "diagram",
    "markdown",
]
