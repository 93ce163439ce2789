"""Wrote the files here, run by ChronoMap 2.1.0 and 2.0.2 themselves (pip install chronomap==…): python write.py 21."""

import sys
from datetime import datetime, timedelta, timezone

from chronomap import ChronoMap  # ChronoMap 2, not this project

name = sys.argv[1]
cm = ChronoMap()
cm.put("a", 1, timestamp=100)
cm.put("a", 2, timestamp=200.5)
cm.put("a", 3, timestamp=200.5)
cm.put("late", "second", timestamp=50)
cm.put("late", "first", timestamp=20)  # back-dated
cm.put(3, {"x": [1, None, "ü"]}, timestamp=5)
cm.put("t", "ttl", timestamp=400, ttl=10**9)
cm.put("gone", 1, timestamp=3)
cm.delete("gone")
cm.put("n", float("nan"), timestamp=7)
cm.save_json(f"{name}.json")
cm.put((1, 2), {1, 2}, timestamp=8)
cm.put("when", datetime(2025, 1, 2, tzinfo=timezone(timedelta(hours=1))), timestamp=9)
cm.save_pickle(f"{name}.pickle")
if name == "21":
    cm.save_pickle(f"{name}.zpickle", compress=True)
