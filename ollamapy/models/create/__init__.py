"""Make a model: from another model, or from files that were uploaded as blobs.

request.py    the request, checked and typed
files.py      uploaded files: which layers they become
layers.py     the layers of the new model, and their order
template.py   which known chat format a GGUF's own template writes
making.py     the story: the base, the layers, the commit
"""
