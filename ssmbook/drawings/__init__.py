"""Diagrams and figures of the chapters, one module a chapter, and sliders that redraw them."""

from ssmbook.drawings.sliders import sliders

__all__ = ["sliders"]
