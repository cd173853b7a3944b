"""OpenAI's API: its paths, and from JSON to requests and from answers to JSON.

    paths.py        the paths, but for response_paths.py
    wire.py         the common parts of its endpoints: options, efforts, usage, events, errors
    chat.py         /v1/chat/completions
    responses.py    /v1/responses; response_events.py writes its answers
    completions.py  /v1/completions
    vectors.py      /v1/embeddings, /v1/rerank
    audio.py        /v1/audio/transcriptions, /v1/audio/translations
    models.py       /v1/models

A feature that is not supported and would change the answer (a spoken answer, for example) is refused by its name. Fields about the
caller or billing (user, store, metadata, service_tier) are ignored. Besides OpenAI's fields, Ollama's keep_alive and options
are accepted, and top_k, min_p, repeat_penalty and num_ctx as fields of their own.
"""
