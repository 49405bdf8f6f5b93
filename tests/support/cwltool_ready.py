"""Imported once by the process that cwltool is forked from: its modules and CWL's schemas."""

from cwltool.factory import Factory

from tests.support.cwl import DOCUMENTS

Factory().make(str(DOCUMENTS / "good" / "comments.expected.cwl"))
