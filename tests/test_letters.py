"""What dask-claim makes up and puts into `DASK_*` variables is read by Dask without a warning."""

from __future__ import annotations

import ast
import contextlib
import re
import warnings
from pathlib import Path

import dask_claim
from dask_claim.claim.model import Claim
from dask_claim.files import private_folder, remove_private_folder
from dask_claim.letters import letters
from dask_claim.providers.values import Request


def test_values_of_variables_are_literals_without_a_warning() -> None:
    """As Dask reads each of them; one in 200 random tokens with digits in them warns."""
    claim = Claim()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(300):
            folder = str(private_folder("keys"))
            remove_private_folder(folder)
            run = Request(claim, claim.plan(), {}).run_id
            for value in (folder, f"http://127.0.0.1:36267/{letters()}/status", run, letters()):
                # What is no literal is taken as it stands; a warning would be raised here, too.
                with contextlib.suppress(ValueError):
                    try:
                        ast.literal_eval(value)
                    except SyntaxError as error:
                        assert "literal" not in str(error), value


def test_nothing_else_makes_names_up() -> None:
    other = re.compile(r"uuid4|mkdtemp|TemporaryDirectory|token_hex|token_urlsafe|random\.choice")
    for module in Path(dask_claim.__file__).parent.rglob("*.py"):
        assert not other.search(module.read_text()), module
