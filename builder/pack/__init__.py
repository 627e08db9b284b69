"""Packs: the runtime and the native libraries of each target, as the file holds them."""
