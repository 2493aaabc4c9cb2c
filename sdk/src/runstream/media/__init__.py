"""Rich values: what of them is checked, and the form in which they are stored."""

from runstream.media._types import MediaType

__all__ = ["MediaType"]
