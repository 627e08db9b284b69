"""llama.cpp behind plain Python: its libraries, its bindings, a model and a context."""
