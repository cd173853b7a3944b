"""Answers without HTTP: every dialect stands on these, and none of them is known here."""
