"""What is wrong with an application."""

from __future__ import annotations

from collections.abc import Sequence


class ApplicationError(ValueError):
    """An application does not fit together; ``mistakes`` has a line for each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__(
            "the application does not fit together:\n" + "\n".join(f"  {m}" for m in mistakes)
        )
        self.mistakes = mistakes
