"""Answers without HTTP: the dialects of ``web/`` use them; nothing here depends on a dialect."""
