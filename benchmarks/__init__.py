"""Measures this ChronoMap and the one on PyPI side by side: ``make bench``."""
