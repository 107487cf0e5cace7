"""Stands before ipywidgets where notebooks are run to be committed: their pictures stand still."""

raise ImportError("not here: a widget in a page without a kernel shows nothing")
