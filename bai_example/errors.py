"""The exceptions a user may cause: an input that cannot be used, now or at all."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(Exception):
    """One or more inputs cannot be used; each problem is one readable line.

    It carries only strings, so that it travels unchanged from a worker to the client.
    """

    exit_status = 1

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems, one line each."""
        return tuple(str(problem) for problem in self.args)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class Unavailable(InputError):
    """An input that could not be had just now: the same run may succeed later."""

    exit_status = 75
    """EX_TEMPFAIL of sysexits.h, as `dask-claim` uses it: a runner may try again."""


def merged(errors: Iterable[InputError]) -> InputError:
    """One error with all their problems; temporary only where all of them are."""
    errors = list(errors)
    kind = Unavailable if all(isinstance(e, Unavailable) for e in errors) else InputError
    return kind(*(problem for error in errors for problem in error.problems))
