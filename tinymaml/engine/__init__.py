"""The autograd engine: tensors, the derivative table, the walk back. It needs NumPy alone."""
