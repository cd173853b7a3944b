"""Documents: their text, page by page. Pure; what reads hostile files runs in a child (runner/read_child.py).

kinds.py   what a file is, by its content
extract.py the text of a document of any kind, up to a bound
word.py    docx: a zip archive with XML
hypertext.py  HTML
pdf.py     PDF, by pypdf and pypdfium2 (the extra `media`)
excerpt.py a document as a prompt has it: its name, page marks, and a note where it was cut
"""
