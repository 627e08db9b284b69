"""The file format: constants and records shared by the builder and the runtime.

Everything here is plain data and the standard library only. ``docs/format.md`` is the
specification; where a number stands there, it is declared once here.
"""
