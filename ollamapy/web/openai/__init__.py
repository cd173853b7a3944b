"""OpenAI's API, from JSON to requests of the vocabulary and from answers to JSON. Pure.

    wire.py         what its endpoints share: options, efforts, usage, events, errors
    chat.py         /v1/chat/completions
    responses.py    /v1/responses, and response_events.py its answers
    completions.py  /v1/completions
    vectors.py      /v1/embeddings, /v1/rerank
    models.py       /v1/models

What OpenAI has and we have not, and what would change the answer, is refused by name: audio, for one. What says something
about the caller or the bill (user, store, metadata, service_tier) is passed over. Beside OpenAI's fields, Ollama's
keep_alive and options are understood, and the sampler's top_k, min_p, repeat_penalty and num_ctx as fields of their own.
"""
