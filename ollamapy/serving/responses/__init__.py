"""Responses of OpenAI's API and their conversations, which the daemon keeps for their callers.

values.py         responses, items and pages, as they are stored; pure
store.py          the tables of responses, synchronous
conversations.py  the tables of conversations, synchronous
running.py        a response that is written in the background, and those that follow it
responses.py      what the web calls

Items and the fields of a response are JSON whose meaning only the dialect knows (web/openai).
"""
