"""Measures this ChronoMap beside the one on PyPI and whatever else does the same job: ``make bench``.

``scenarios`` says what is measured and what is wanted; ``frame`` what a scenario is made of; ``stores`` holds what several
scenarios are compared with. ``worker`` measures one scenario on one side, in a process of its own; ``rounds`` runs the
workers in turn; ``report``, ``plot`` and ``profiling`` are for reading.
"""
