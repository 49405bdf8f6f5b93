"""The one exception a user may cause: an input that cannot be used."""

from __future__ import annotations


class InputError(Exception):
    """One or more inputs cannot be used; each problem is one readable line.

    It carries only strings, so that it travels unchanged from a worker to the client.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems, one line each."""
        return tuple(str(problem) for problem in self.args)

    def __str__(self) -> str:
        return "\n".join(self.problems)
