"""Seeds -> noise -> images, with NumPy alone."""
