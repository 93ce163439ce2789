"""What the map means, as plain synchronous code.

No ``await``, no thread, no file and no clock lives here: "now" is passed in. Everything that changes the store runs on the
owner (see ``chronomap.runtime``), one command at a time; everything that reads may run on any thread at any moment.
"""
