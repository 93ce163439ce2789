"""The owner and what stands around it: the only floor that knows threads, tasks and event loops."""
