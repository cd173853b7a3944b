"""Conversations that the daemon keeps: a tree of messages each, whose answers are generated for the chat and not for a socket.

values.py     chats and messages, as they are stored and sent
events.py     what an answer consists of so far, as events that can be taken up at any place; pure
asking.py     from a chat's messages to a request; pure
store.py      the database: the only reader and writer of it, synchronous
answers.py    the tasks that write answers, and those that follow them
chats.py      what the web calls
"""
