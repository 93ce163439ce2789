"""A naive map written from the documents, and a random test that holds the real one against it."""
