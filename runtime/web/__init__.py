"""The HTTP side of a built file: chat page, OpenAI-compatible API, and the server around them."""
